import COpenSSL

/// One of the two issuers of a deployment: the server CA (gateways and API) or the device CA. Both are this
/// type, each with its own key; the sides of a handshake pin one of them each.
package struct CertificateAuthority: Sendable {
    /// How far the begin of validity is set back, for clocks that are behind.
    package static let backdateSeconds: Int64 = 300
    /// The validity of a device's certificate: 90 days, renewed at two thirds.
    package static let deviceValiditySeconds: Int64 = 90 * 86_400

    /// The issuer's own certificate, which the other side pins.
    package let certificate: Certificate
    private let key: P256Key

    /// Takes a kept CA back; throws `malformed`, or `wrongType` when the certificate is no CA's or not for
    /// this key.
    package init(certificatePEM: String, keyPEM: String) throws(TrustError) {
        try self.init(certificate: Certificate(pem: certificatePEM), key: P256Key(pem: keyPEM))
    }

    private init(certificate: Certificate, key: P256Key) throws(TrustError) {
        guard certificate.isCA else { throw TrustError(.wrongType, "the certificate is not a CA's") }
        guard certificate.publicKeyHash == key.publicKeyHash else {
            throw TrustError(.wrongType, "the CA's certificate and key do not belong together")
        }
        self.certificate = certificate
        self.key = key
    }

    /// A new self-signed CA that may sign leaves and nothing else.
    package static func make(
        commonName: String, validitySeconds: Int64, now: Int64 = systemSeconds()
    ) throws(TrustError) -> CertificateAuthority {
        let key = P256Key()
        let draft = try Draft(
            commonName: commonName, notBefore: now - backdateSeconds, notAfter: now + validitySeconds)
        try unsafe draft.setKey(key.key.pointer)
        try draft.add(NID_basic_constraints, "critical,CA:TRUE,pathlen:0")
        try draft.add(NID_key_usage, "critical,keyCertSign,cRLSign")
        try draft.add(NID_subject_key_identifier, "hash")
        return try CertificateAuthority(certificate: draft.signed(by: key, issuer: nil), key: key)
    }

    /// The private key, to be stored where only the API role can read.
    package var keyPEM: String { key.pem }

    /// A certificate for a gateway or API listener: `serverAuth` alone, not a CA, the names given. Throws
    /// `malformed` for a name that is none.
    package func issueServer(
        for key: P256Key, dnsNames: [String], ipAddresses: [String], validitySeconds: Int64,
        now: Int64 = systemSeconds()
    ) throws(TrustError) -> Certificate {
        guard !dnsNames.isEmpty || !ipAddresses.isEmpty else {
            throw TrustError(.malformed, "a server's certificate needs a name")
        }
        let names = try AlternativeNames()
        for name in dnsNames { try names.add(dns: name) }
        for address in ipAddresses { try names.add(ip: address) }
        return try unsafe issue(
            commonName: String((dnsNames + ipAddresses)[0].prefix(64)), publicKey: key.key.pointer,
            names: names, usage: "serverAuth", validitySeconds: validitySeconds, now: now)
    }

    /// A device's client certificate: `clientAuth` alone, not a CA, named by `deviceURI`
    /// (`cloudrmm://<deployment>/device/<organization>/<device>`); of the request only its public key is
    /// taken.
    package func issueDevice(
        request: CertificateRequest, deviceURI: String, validitySeconds: Int64 = deviceValiditySeconds,
        now: Int64 = systemSeconds()
    ) throws(TrustError) -> Certificate {
        let parts = deviceURI.split(separator: "/", omittingEmptySubsequences: false)
        guard parts.count == 6, parts[0] == "cloudrmm:", parts[1].isEmpty, parts[3] == "device",
            !parts[2].isEmpty, !parts[4].isEmpty, !parts[5].isEmpty
        else {
            throw TrustError(
                .malformed, "a device is named cloudrmm://<deployment>/device/<organization>/<device>")
        }
        let names = try AlternativeNames()
        try names.add(uri: deviceURI)
        return try unsafe issue(
            commonName: String(parts[5]), publicKey: request.publicKey, names: names, usage: "clientAuth",
            validitySeconds: validitySeconds, now: now)
    }

    private func issue(
        commonName: String, publicKey: OpaquePointer?, names: AlternativeNames, usage: String,
        validitySeconds: Int64,
        now: Int64
    ) throws(TrustError) -> Certificate {
        let draft = try Draft(
            commonName: commonName, notBefore: now - Self.backdateSeconds,
            notAfter: min(now + validitySeconds, certificate.notAfter))
        try unsafe draft.setKey(publicKey)
        try draft.add(NID_basic_constraints, "critical,CA:FALSE")
        try draft.add(NID_key_usage, "critical,digitalSignature")
        try draft.add(NID_ext_key_usage, usage)
        try draft.add(NID_subject_key_identifier, "hash")
        try draft.add(NID_authority_key_identifier, "keyid:always", issuer: certificate)
        try draft.add(names)
        return try draft.signed(by: key, issuer: certificate)
    }
}

/// The alternative names of a certificate to be; added as structures, never as configuration text, so that a
/// name cannot smuggle in another.
@safe private struct AlternativeNames {
    let names: Owned

    init() throws(TrustError) {
        names = try unsafe Owned(
            GENERAL_NAMES_new(), GENERAL_NAMES_free, "make a list of names")
    }

    func add(dns name: String) throws(TrustError) {
        let isPlain = name.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."),
                UInt8(ascii: "_"):
                true
            default: false
            }
        }
        guard isPlain, (1...253).contains(name.utf8.count) else {
            throw TrustError(.malformed, "a DNS name has 1 to 253 letters, digits, dots and hyphens")
        }
        try add(GEN_DNS, Array(name.utf8))
    }

    func add(uri: String) throws(TrustError) {
        guard uri.utf8.allSatisfy({ (0x21...0x7E).contains($0) }), (1...512).contains(uri.utf8.count) else {
            throw TrustError(.malformed, "a URI has 1 to 512 visible ASCII characters")
        }
        try add(GEN_URI, Array(uri.utf8))
    }

    func add(ip address: String) throws(TrustError) {
        guard let bytes = unsafe a2i_IPADDRESS(address), !address.utf8.contains(0) else {
            throw TrustError.openSSL(.malformed, "not an IP address")
        }
        try unsafe add(GEN_IPADD, adopting: bytes)
    }

    private func add(_ type: Int32, _ bytes: [UInt8]) throws(TrustError) {
        guard let string = unsafe ASN1_IA5STRING_new() else {
            throw TrustError.openSSL(.library, "cannot make a name")
        }
        guard unsafe ASN1_STRING_set(string, bytes, Int32(bytes.count)) == 1 else {
            unsafe ASN1_STRING_free(string)
            throw TrustError.openSSL(.library, "cannot make a name")
        }
        try unsafe add(type, adopting: string)
    }

    private func add(_ type: Int32, adopting value: UnsafeMutablePointer<ASN1_STRING>) throws(TrustError) {
        guard let name = unsafe GENERAL_NAME_new() else {
            unsafe ASN1_STRING_free(value)
            throw TrustError.openSSL(.library, "cannot make a name")
        }
        unsafe GENERAL_NAME_set0_value(name, type, value)
        guard unsafe crmm_sk_GENERAL_NAME_push(names.pointer, name) > 0 else {
            unsafe GENERAL_NAME_free(name)
            throw TrustError.openSSL(.library, "cannot add a name")
        }
    }
}

/// A certificate that is being written, with a random serial number of 127 bits.
@safe private struct Draft {
    private let x509: Owned

    init(commonName: String, notBefore: Int64, notAfter: Int64) throws(TrustError) {
        x509 = try unsafe Owned(X509_new(), X509_free, "make a certificate")
        try check(unsafe X509_set_version(x509.pointer, 2), "set a version")
        var serial = randomBytes(16)
        serial[0] &= 0x7F
        let number = try unsafe Owned(
            BN_bin2bn(serial, Int32(serial.count), nil), BN_free, "make a serial number")
        let stored = unsafe BN_to_ASN1_INTEGER(number.pointer, X509_get_serialNumber(x509.pointer))
        try check(unsafe stored == nil ? 0 : 1, "set a serial number")
        try unsafe addCommonName(commonName, to: X509_get_subject_name(x509.pointer))
        try unsafe setTime(notBefore, X509_set1_notBefore)
        try unsafe setTime(notAfter, X509_set1_notAfter)
    }

    func setKey(_ key: OpaquePointer?) throws(TrustError) {
        try check(unsafe X509_set_pubkey(x509.pointer, key), "set a certificate's key")
    }

    /// Adds an extension in the library's configuration syntax; `value` is always a constant of this file.
    func add(_ extensionID: Int32, _ value: String, issuer: Certificate? = nil) throws(TrustError) {
        var context = unsafe X509V3_CTX()
        unsafe X509V3_set_ctx(&context, issuer?.x509.pointer ?? x509.pointer, x509.pointer, nil, nil, 0)
        let made = try unsafe Owned(
            X509V3_EXT_conf_nid(nil, &context, extensionID, value), X509_EXTENSION_free,
            "make an extension")
        try check(unsafe X509_add_ext(x509.pointer, made.pointer, -1), "add an extension")
    }

    func add(_ names: AlternativeNames) throws(TrustError) {
        let list = unsafe UnsafeMutableRawPointer(names.names.pointer)
        try check(
            unsafe X509_add1_ext_i2d(x509.pointer, NID_subject_alt_name, list, 0, 0),
            "add the alternative names")
    }

    /// Signs; without `issuer` the certificate is its own.
    func signed(by key: P256Key, issuer: Certificate?) throws(TrustError) -> Certificate {
        let signer = unsafe issuer?.x509.pointer ?? x509.pointer
        try check(unsafe X509_set_issuer_name(x509.pointer, X509_get_subject_name(signer)), "set an issuer")
        guard unsafe X509_sign(x509.pointer, key.key.pointer, EVP_sha256()) > 0 else {
            throw TrustError.openSSL(.library, "cannot sign a certificate")
        }
        return try Certificate(x509)
    }

    private func setTime(
        _ seconds: Int64, _ set: (OpaquePointer?, UnsafePointer<ASN1_TIME>?) -> Int32
    ) throws(TrustError) {
        guard let time = unsafe ASN1_TIME_set(nil, Int(seconds)) else {
            throw TrustError.openSSL(.library, "cannot make a time")
        }
        defer { unsafe ASN1_STRING_free(time) }
        try check(unsafe set(x509.pointer, time), "set a validity")
    }
}
