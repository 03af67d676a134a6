// A sealed secret:
//
//     offset  bytes  field
//     0       1      version: 1
//     1       1      length n of the key's id, 1 to 32
//     2       n      id of the key in ASCII
//     n+2     12     nonce, random
//     n+14    1…65536 ciphertext, AES-256-GCM
//     …       16     tag, also over "cloudrmm.sealed.v1", the label's parts and the key's id, framed
//
// Nothing follows the tag. Nonces are random: one key seals at most 2^32 secrets (NIST SP 800-38D §8.3).

/// A secret as it is stored: under a key that is named, for a label that is not in it.
package struct SealedSecret: Sendable, Hashable {
    /// The largest secret.
    package static let secretBytesMax = 64 << 10

    private static let version: UInt8 = 1
    private static let domain = Array("cloudrmm.sealed.v1".utf8)

    /// The id of the key that it is sealed with.
    package let keyID: String
    private let nonce: [UInt8]
    private let sealed: [UInt8]

    /// Takes a kept secret back; throws `malformed`. Whether it opens is another question.
    package init(bytes: [UInt8]) throws(TrustError) {
        let overhead = AES256GCM.nonceByteCount + AES256GCM.tagByteCount
        var rest = bytes[...]
        guard rest.popFirst() == Self.version, let idCount = rest.popFirst(),
            let id = rest.take(Int(idCount)), let keyID = SealingKeys.Key.id(of: id),
            overhead + 1...overhead + Self.secretBytesMax ~= rest.count,
            let nonce = rest.take(AES256GCM.nonceByteCount)
        else { throw TrustError(.malformed, "these \(bytes.count) bytes are not a sealed secret") }
        (self.keyID, self.nonce, sealed) = (keyID, nonce, Array(rest))
    }

    /// Seals 1 to 65536 bytes; throws `limit` for none or more.
    init(_ secret: SecretBytes, with key: SealingKeys.Key, for label: SecretLabel) throws(TrustError) {
        try Self.checkLength(of: secret)
        keyID = key.id
        nonce = randomBytes(AES256GCM.nonceByteCount)
        sealed = try AES256GCM.seal(
            secret, key: key.secret, nonce: nonce, associated: Self.associated(label, keyID))
    }

    /// The secret; throws `badSeal` unless these bytes were sealed with this key for this label.
    func open(with key: SealingKeys.Key, for label: SecretLabel) throws(TrustError) -> SecretBytes {
        try AES256GCM.open(
            sealed, key: key.secret, nonce: nonce, associated: Self.associated(label, keyID))
    }

    /// What is stored.
    package var bytes: [UInt8] {
        Self.mark(of: keyID) + nonce + sealed
    }

    /// What a secret begins with that a key of this id has sealed.
    static func mark(of keyID: String) -> [UInt8] {
        [version, UInt8(keyID.utf8.count)] + Array(keyID.utf8)
    }

    static func checkLength(of secret: SecretBytes) throws(TrustError) {
        guard 1...secretBytesMax ~= secret.count else {
            throw TrustError(.limit, "a secret has 1 to \(secretBytesMax) bytes, not \(secret.count)")
        }
    }

    private static func associated(_ label: SecretLabel, _ keyID: String) -> [UInt8] {
        framed([domain] + label.parts + [Array(keyID.utf8)])
    }
}
