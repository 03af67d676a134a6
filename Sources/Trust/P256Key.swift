import COpenSSL

/// A P-256 private key: a device's, a server's or a CA's.
package struct P256Key: Sendable {
    let key: Owned
    /// SHA-256 over the DER of the public key (SubjectPublicKeyInfo): what an assignment and a device row
    /// hold.
    package let publicKeyHash: [UInt8]

    /// A new key.
    package init() {
        do {
            try self.init(
                unsafe Owned(crmm_EVP_EC_gen("P-256"), EVP_PKEY_free, "make a P-256 key"))
        } catch {
            fatalError("\(error)")
        }
    }

    /// Reads an unencrypted PEM (PKCS#8 or SEC 1); throws `malformed` for anything else and `wrongType` for
    /// another kind of key.
    package init(pem: String) throws(TrustError) {
        try self.init(Self.anyKind(pem: pem))
    }

    /// A private key of any kind: a listener may be given a certificate by others. An encrypted one is
    /// refused, never asked for.
    static func anyKind(pem: String) throws(TrustError) -> Owned {
        let bio = try MemoryBIO(pem)
        return try unsafe Owned(
            PEM_read_bio_PrivateKey(bio.pointer, nil, { _, _, _, _ in -1 }, nil),
            EVP_PKEY_free,
            "read a private key", as: .malformed)
    }

    private init(_ key: Owned) throws(TrustError) {
        let der = try unsafe derBytes { unsafe i2d_PUBKEY(key.pointer, $0) }
        try PublicKeyInfo.checkP256(der)
        self.key = key
        publicKeyHash = SHA256.hash(der)
    }

    /// The key as PKCS#8, not encrypted.
    package var pem: String {
        do {
            let bio = try MemoryBIO()
            try check(
                unsafe PEM_write_bio_PKCS8PrivateKey(bio.pointer, key.pointer, nil, nil, 0, nil, nil),
                "write a private key")
            return bio.text()
        } catch {
            fatalError("\(error)")
        }
    }

    /// A signed request (PKCS#10, PEM) for a certificate over this key; the name is a courtesy that no issuer
    /// of ours takes.
    package func certificateRequest(commonName: String) throws(TrustError) -> String {
        let request = try unsafe Owned(X509_REQ_new(), X509_REQ_free, "make a request")
        let name = unsafe X509_REQ_get_subject_name(request.pointer)
        try unsafe addCommonName(commonName, to: name)
        try check(unsafe X509_REQ_set_pubkey(request.pointer, key.pointer), "set a request's key")
        guard unsafe X509_REQ_sign(request.pointer, key.pointer, EVP_sha256()) > 0 else {
            throw TrustError.openSSL(.library, "cannot sign a request")
        }
        let bio = try MemoryBIO()
        try check(unsafe PEM_write_bio_X509_REQ(bio.pointer, request.pointer), "write a request")
        return bio.text()
    }
}

/// The DER of a public key as certificates carry it.
enum PublicKeyInfo {
    /// SEQUENCE { SEQUENCE { ecPublicKey, prime256v1 }, BIT STRING { 04, …
    static let p256Prefix = Hex.decode("3059301306072a8648ce3d020106082a8648ce3d03010703420004") ?? []

    /// Throws `wrongType` unless `der` is a P-256 key on the named curve with an uncompressed point: one form
    /// for one key.
    static func checkP256(_ der: [UInt8]) throws(TrustError) {
        guard der.count == p256Prefix.count + 64, der.starts(with: p256Prefix) else {
            throw TrustError(.wrongType, "only P-256 keys (named curve, uncompressed point) are accepted")
        }
    }
}

/// Adds a common name; X.520 allows 64 characters.
func addCommonName(_ text: String, to name: OpaquePointer?) throws(TrustError) {
    let bytes = Array(text.utf8)
    guard !bytes.isEmpty, text.unicodeScalars.count <= 64 else {
        throw TrustError(.limit, "a common name has 1 to 64 characters, not \(text.unicodeScalars.count)")
    }
    try check(
        unsafe X509_NAME_add_entry_by_NID(
            name, NID_commonName, MBSTRING_UTF8, bytes, Int32(bytes.count), -1, 0),
        "set a common name")
}
