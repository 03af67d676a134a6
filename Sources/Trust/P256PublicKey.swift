import COpenSSL

/// A P-256 public key, known to be a point of the curve.
package struct P256PublicKey: Sendable {
    /// The length of a point in bytes: 04, x, y.
    package static let pointByteCount = 65

    let key: Owned
    /// SubjectPublicKeyInfo, on the named curve with an uncompressed point.
    package let der: [UInt8]

    /// Reads a SubjectPublicKeyInfo; throws `wrongType` for another kind of key or form, and `malformed` for
    /// a point that is not on the curve.
    package init(der: [UInt8]) throws(TrustError) {
        try PublicKeyInfo.checkP256(der)
        key = try unsafe der.withUnsafeBufferPointer { buffer throws(TrustError) in
            var cursor = buffer.baseAddress
            return try unsafe Owned(
                d2i_PUBKEY(nil, &cursor, buffer.count), EVP_PKEY_free, "read a point of P-256", as: .malformed
            )
        }
        self.der = der
    }

    /// Reads an uncompressed point; throws as for its SubjectPublicKeyInfo.
    init(point: [UInt8]) throws(TrustError) {
        try self.init(der: PublicKeyInfo.p256Prefix.dropLast() + point)
    }

    /// The uncompressed point.
    var point: [UInt8] { Array(der.suffix(Self.pointByteCount)) }

    /// SHA-256 over the DER: what an assignment and a device row hold.
    package var hash: [UInt8] { SHA256.hash(der) }
}

extension P256PublicKey: Hashable {
    /// Whether both are the same point.
    package static func == (left: P256PublicKey, right: P256PublicKey) -> Bool { left.der == right.der }

    /// Feeds the point.
    package func hash(into hasher: inout Hasher) { hasher.combine(der) }
}

extension P256Key {
    /// The public half.
    package var publicKey: P256PublicKey {
        do {
            return try P256PublicKey(der: unsafe derBytes { unsafe i2d_PUBKEY(key.pointer, $0) })
        } catch {
            fatalError("\(error)")
        }
    }

    /// The secret that this key shares with the owner of another (ECDH, NIST SP 800-56A): x of the common
    /// point. The library checks that the peer's point is one of the curve.
    func sharedSecret(with peer: P256PublicKey) throws(TrustError) -> SecretBytes {
        let context = try unsafe Owned(
            EVP_PKEY_CTX_new(key.pointer, nil), EVP_PKEY_CTX_free, "make a key agreement")
        try check(unsafe EVP_PKEY_derive_init(context.pointer), "start a key agreement")
        try check(
            unsafe EVP_PKEY_derive_set_peer_ex(context.pointer, peer.key.pointer, 1),
            "agree with this peer", as: .malformed)
        return try unsafe SecretBytes(count: 32) { buffer throws(TrustError) in
            var count = buffer.count
            try check(
                unsafe EVP_PKEY_derive(context.pointer, buffer.baseAddress, &count), "agree on a secret")
            try check(count == 32 ? 1 : 0, "agree on a secret of 32 bytes")
        }
    }
}

extension Certificate {
    /// The public key that it certifies; throws `wrongType` unless that is of P-256.
    package func p256PublicKey() throws(TrustError) -> P256PublicKey {
        try P256PublicKey(
            der: unsafe derBytes { unsafe i2d_X509_PUBKEY(X509_get_X509_PUBKEY(x509.pointer), $0) })
    }
}
