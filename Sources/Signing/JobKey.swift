import CSodium
package import Trust

/// The key that signs jobs, whose signatures libsodium makes: byte for byte those of `SigningKey`
/// (RFC 8032 leaves no choice), in less than half the time, which is the largest part of what a submission
/// costs the API. It stands beside `Trust` so that agents, which sign nothing, need no libsodium.
package struct JobKey: StatementKey {
    /// The key that verifies what this one signs.
    package let publicKey: VerifyingKey
    /// The seed and the public key, as libsodium wants them.
    private let secret: SecretBytes

    /// The same key as `key`.
    package init(_ key: SigningKey) {
        precondition(Self.isReady, "libsodium did not start")
        publicKey = key.publicKey
        secret = SecretBytes(key.seed + key.publicKey.bytes)
    }

    /// The signature of `message`, 64 bytes.
    package func sign(_ message: [UInt8]) -> [UInt8] {
        var signature = [UInt8](repeating: 0, count: VerifyingKey.signatureByteCount)
        let done = secret.withBytes { secret in
            unsafe secret.withUnsafeBufferPointer { secret in
                guard let address = secret.baseAddress else { return Int32(-1) }
                return unsafe crypto_sign_ed25519_detached(
                    &signature, nil, message, UInt64(message.count), address)
            }
        }
        precondition(done == 0, "libsodium failed to sign")
        return signature
    }

    /// Chooses, once, what this processor does best.
    private static let isReady = sodium_init() >= 0
}
