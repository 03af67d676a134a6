import COpenSSL

/// A certificate request as a stranger sent it, of which only the public key and the proof of its possession
/// are taken; names and extensions are never read.
package struct CertificateRequest: Sendable {
    /// The largest request that is looked at.
    package static let pemBytesMax = 16 << 10

    private let request: Owned
    /// SHA-256 over the DER of the public key.
    package let publicKeyHash: [UInt8]

    /// Reads a PEM; throws `limit` over 16 KiB, `malformed`, `wrongType` for a key that is not P-256, and
    /// `badSignature` when the request is not signed by that key.
    package init(pem: String) throws(TrustError) {
        guard pem.utf8.count <= Self.pemBytesMax else {
            throw TrustError(
                .limit, "a certificate request has at most \(Self.pemBytesMax) bytes, not \(pem.utf8.count)")
        }
        let bio = try MemoryBIO(pem)
        let request = try unsafe Owned(
            PEM_read_bio_X509_REQ(bio.pointer, nil, nil, nil), X509_REQ_free,
            "read a certificate request", as: .malformed)
        let der = try unsafe derBytes {
            unsafe i2d_X509_PUBKEY(X509_REQ_get_X509_PUBKEY(request.pointer), $0)
        }
        try PublicKeyInfo.checkP256(der)
        self.request = request
        publicKeyHash = SHA256.hash(der)
        guard let key = unsafe publicKey else {
            throw TrustError.openSSL(.malformed, "the request's key is not a point of P-256")
        }
        try check(
            unsafe X509_REQ_verify(request.pointer, key), "verify the request's own signature",
            as: .badSignature)
    }

    var publicKey: OpaquePointer? { unsafe X509_REQ_get0_pubkey(request.pointer) }
}
