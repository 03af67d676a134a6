// A secret that is sealed to a device's key (ECIES):
//
//     offset  bytes   field
//     0       1       version: 1
//     1       65      ephemeral public key, an uncompressed point of P-256
//     66      1…65536 ciphertext, AES-256-GCM
//     …       16      tag, also over the framed parts that both sides know
//
// Key (32) and nonce (12) are HKDF-SHA-256 over the x that ephemeral and device key share, without salt, with
// the info "cloudrmm.secret.v1" NUL, ephemeral point, device's point. The ephemeral key is used once, so its
// nonce is too.

/// A secret on its way to one device, which nobody else can open.
///
/// It says nothing about who sealed it: anybody can, who knows the device's public key. What an agent does
/// with it must follow from a signed statement that names the secret and its hash.
package struct DeviceSeal: Sendable, Hashable {
    private static let version: UInt8 = 1
    private static let domain = Array("cloudrmm.secret.v1".utf8) + [0]

    private let ephemeral: P256PublicKey
    private let sealed: [UInt8]

    /// Takes received bytes; throws `malformed` for another shape or a point that is not on the curve.
    package init(bytes: [UInt8]) throws(TrustError) {
        var rest = bytes[...]
        guard rest.popFirst() == Self.version, let point = rest.take(P256PublicKey.pointByteCount),
            point.first == 4,
            AES256GCM.tagByteCount + 1...AES256GCM.tagByteCount + SealedSecret.secretBytesMax ~= rest.count
        else { throw TrustError(.malformed, "these \(bytes.count) bytes are not sealed to a device") }
        ephemeral = try P256PublicKey(point: point)
        sealed = Array(rest)
    }

    private init(_ ephemeral: P256PublicKey, _ sealed: [UInt8]) {
        (self.ephemeral, self.sealed) = (ephemeral, sealed)
    }

    /// Seals 1 to 65536 bytes to a device's key; it opens with the same `parts` only. Throws `limit` for none
    /// or more bytes.
    package static func seal(
        _ secret: SecretBytes, to device: P256PublicKey, for parts: [[UInt8]]
    ) throws(TrustError) -> DeviceSeal {
        try SealedSecret.checkLength(of: secret)
        let ephemeral = P256Key()
        let keys = try Keys(
            shared: ephemeral.sharedSecret(with: device), ephemeral: ephemeral.publicKey, device: device)
        let sealed = try AES256GCM.seal(
            secret, key: keys.key, nonce: keys.nonce, associated: framed(parts))
        return DeviceSeal(ephemeral.publicKey, sealed)
    }

    /// The secret; throws `badSeal` unless these bytes were sealed to this key for these parts.
    package func open(with device: P256Key, for parts: [[UInt8]]) throws(TrustError) -> SecretBytes {
        let keys = try Keys(
            shared: device.sharedSecret(with: ephemeral), ephemeral: ephemeral, device: device.publicKey)
        return try AES256GCM.open(
            sealed, key: keys.key, nonce: keys.nonce, associated: framed(parts))
    }

    /// What is sent.
    package var bytes: [UInt8] { [Self.version] + ephemeral.point + sealed }

    private struct Keys {
        let key: SecretBytes
        let nonce: [UInt8]

        init(
            shared: SecretBytes, ephemeral: P256PublicKey, device: P256PublicKey
        ) throws(TrustError) {
            let derived = try hkdfSHA256(
                secret: shared, info: DeviceSeal.domain + ephemeral.point + device.point,
                count: AES256GCM.keyByteCount + AES256GCM.nonceByteCount
            )
            key = derived.part(0..<AES256GCM.keyByteCount)
            nonce = derived.part(AES256GCM.keyByteCount..<derived.count).copy()
        }
    }
}
