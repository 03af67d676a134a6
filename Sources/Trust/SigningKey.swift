import COpenSSL

/// An Ed25519 private key (RFC 8032).
package struct SigningKey: StatementKey {
    /// The length of a seed in bytes.
    package static let seedByteCount = 32

    private let key: Owned
    /// The key that verifies what this one signs.
    package let publicKey: VerifyingKey

    /// A new key.
    package init() {
        do { try self.init(seed: randomBytes(Self.seedByteCount)) } catch { fatalError("\(error)") }
    }

    /// The key of a seed of 32 bytes; throws `malformed` for another length.
    package init(seed: [UInt8]) throws(TrustError) {
        guard seed.count == Self.seedByteCount else {
            throw TrustError(.malformed, "an Ed25519 seed has 32 bytes, not \(seed.count)")
        }
        key = try unsafe Owned(
            EVP_PKEY_new_raw_private_key(EVP_PKEY_ED25519, nil, seed, seed.count),
            EVP_PKEY_free,
            "read an Ed25519 seed")
        var bytes = [UInt8](repeating: 0, count: VerifyingKey.byteCount)
        var count = bytes.count
        try check(
            unsafe EVP_PKEY_get_raw_public_key(key.pointer, &bytes, &count), "derive an Ed25519 public key")
        publicKey = try VerifyingKey(bytes: bytes)
    }

    /// The 32 secret bytes, to be stored where only the owner of the key can read.
    package var seed: [UInt8] {
        var bytes = [UInt8](repeating: 0, count: Self.seedByteCount)
        var count = bytes.count
        precondition(unsafe EVP_PKEY_get_raw_private_key(key.pointer, &bytes, &count) == 1)
        return bytes
    }

    /// The signature of `message`, 64 bytes.
    package func sign(_ message: [UInt8]) -> [UInt8] {
        var signature = [UInt8](repeating: 0, count: VerifyingKey.signatureByteCount)
        var count = signature.count
        guard let context = unsafe EVP_MD_CTX_new() else { fatalError("libcrypto is out of memory") }
        defer { unsafe EVP_MD_CTX_free(context) }
        let done =
            unsafe EVP_DigestSignInit(context, nil, nil, nil, key.pointer) == 1
            && EVP_DigestSign(context, &signature, &count, message, message.count) == 1
        precondition(done && count == VerifyingKey.signatureByteCount, "Ed25519 failed to sign")
        return signature
    }
}

/// An Ed25519 public key.
package struct VerifyingKey: Sendable, Hashable {
    /// The length of a key in bytes.
    package static let byteCount = 32
    /// The length of a signature in bytes.
    package static let signatureByteCount = 64

    /// The 32 bytes of RFC 8032.
    package let bytes: [UInt8]

    /// Takes 32 bytes; throws `malformed` for another length, a y that is not reduced, and the points of
    /// small order, under which one signature would hold for any message.
    package init(bytes: [UInt8]) throws(TrustError) {
        guard bytes.count == Self.byteCount else {
            throw TrustError(.malformed, "an Ed25519 key has 32 bytes, not \(bytes.count)")
        }
        var y = bytes
        y[31] &= 0x7F
        let isReduced = y.reversed().lexicographicallyPrecedes(Self.prime.reversed())
        guard isReduced, !Self.smallOrder.contains(y) else {
            throw TrustError(.malformed, "this Ed25519 key is not reduced or of small order")
        }
        self.bytes = bytes
    }

    /// The first 8 bytes of the key's SHA-256, as 16 hexadecimal digits.
    package var id: String { Hex.encode(SHA256.hash(bytes).prefix(8)) }

    /// Whether `signature` is this key's over `message`. Only 1 from the library means yes.
    package func isValid(_ signature: [UInt8], for message: [UInt8]) -> Bool {
        guard signature.count == Self.signatureByteCount,
            let key = unsafe EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, nil, bytes, bytes.count)
        else { return false }
        defer { unsafe EVP_PKEY_free(key) }
        guard let context = unsafe EVP_MD_CTX_new() else { return false }
        defer { unsafe EVP_MD_CTX_free(context) }
        defer { ERR_clear_error() }
        return unsafe EVP_DigestVerifyInit(context, nil, nil, nil, key) == 1
            && EVP_DigestVerify(context, signature, signature.count, message, message.count) == 1
    }

    /// 2^255 - 19, little endian.
    private static let prime = [0xED] + [UInt8](repeating: 0xFF, count: 30) + [0x7F]
    /// The y of the eight points of small order, without sign, little endian.
    private static let smallOrder: Set<[UInt8]> = [
        [UInt8](repeating: 0, count: 32),
        [1] + [UInt8](repeating: 0, count: 31),
        [0xEC] + [UInt8](repeating: 0xFF, count: 30) + [0x7F],
        Hex.decode("26e8958fc2b227b045c3f489f2ef98f0d5dfac05d3c63339b13802886d53fc05") ?? [],
        Hex.decode("c7176a703d4dd84fba3c0b760d10670f2a2053fa2c39ccc64ec7fd7792ac037a") ?? [],
    ]
}
