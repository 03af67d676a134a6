import COpenSSL

/// A secret behind 32 random bytes, which are as secret as it is: its hash can be shown to anybody, who can
/// neither guess a weak secret by it nor tell whether two are the same.
///
///     offset  bytes  field
///     0       32     salt, random
///     32      1…     the secret
package struct SaltedSecret: Sendable, Equatable {
    /// The length of the salt in bytes.
    package static let saltByteCount = 32

    /// Salt and secret: what is sealed.
    package let bytes: SecretBytes

    /// A secret behind a new salt.
    package init(_ secret: SecretBytes) {
        let salt = SecretBytes(random: Self.saltByteCount)
        bytes = unsafe SecretBytes(count: Self.saltByteCount + secret.count) { buffer in
            for index in 0..<Self.saltByteCount { unsafe buffer[index] = salt.address[index] }
            for index in 0..<secret.count {
                unsafe buffer[Self.saltByteCount + index] = secret.address[index]
            }
        }
    }

    /// Takes what was sealed; throws `malformed` if it is no longer than a salt.
    package init(opened bytes: SecretBytes) throws(TrustError) {
        guard bytes.count > Self.saltByteCount else {
            throw TrustError(.malformed, "these \(bytes.count) bytes are no secret behind a salt")
        }
        self.bytes = bytes
    }

    /// The secret alone.
    package var secret: SecretBytes { bytes.part(Self.saltByteCount..<bytes.count) }

    /// SHA-256 over salt and secret.
    package var hash: [UInt8] {
        var digest = [UInt8](repeating: 0, count: SHA256.byteCount)
        let done = unsafe EVP_Digest(bytes.address, bytes.count, &digest, nil, EVP_sha256(), nil)
        precondition(done == 1, "SHA-256 failed")
        return digest
    }

    /// Whether this is the secret of a hash; compares in constant time.
    package func has(hash: [UInt8]) -> Bool { constantTimeEqual(hash, self.hash) }
}
