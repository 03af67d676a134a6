import COpenSSL

/// SHA-256 (FIPS 180-4), in one call or in pieces.
@safe package struct SHA256: ~Copyable {
    /// The length of a digest in bytes.
    package static let byteCount = 32

    nonisolated(unsafe) private static let algorithm: OpaquePointer = {
        guard let found = unsafe EVP_MD_fetch(nil, "SHA256", nil) else {
            fatalError("libcrypto has no SHA-256")
        }
        return unsafe found
    }()

    private let context: OpaquePointer

    /// A digest of nothing yet.
    package init() {
        guard let context = unsafe EVP_MD_CTX_new() else { fatalError("libcrypto is out of memory") }
        unsafe self.context = context
        precondition(unsafe EVP_DigestInit_ex(context, Self.algorithm, nil) == 1, "SHA-256 failed to start")
    }

    deinit { unsafe EVP_MD_CTX_free(context) }

    /// Adds `bytes`.
    package mutating func update(_ bytes: [UInt8]) {
        precondition(unsafe EVP_DigestUpdate(context, bytes, bytes.count) == 1, "SHA-256 failed")
    }

    /// The digest of everything added so far; more may be added afterwards.
    package func finalize() -> [UInt8] {
        let copy = SHA256()
        var digest = [UInt8](repeating: 0, count: Self.byteCount)
        let done =
            unsafe EVP_MD_CTX_copy_ex(copy.context, context) == 1
            && EVP_DigestFinal_ex(copy.context, &digest, nil) == 1
        precondition(done, "SHA-256 failed to finish")
        return digest
    }

    /// The digest of `bytes`.
    package static func hash(_ bytes: [UInt8]) -> [UInt8] {
        var digest = [UInt8](repeating: 0, count: byteCount)
        let done = unsafe EVP_Digest(bytes, bytes.count, &digest, nil, algorithm, nil)
        precondition(done == 1, "SHA-256 failed")
        return digest
    }
}

/// HMAC-SHA-256 (RFC 2104) of `message` under `key`, 32 bytes.
package func hmacSHA256(key: [UInt8], message: [UInt8]) -> [UInt8] {
    var code = [UInt8](repeating: 0, count: SHA256.byteCount)
    var count: UInt32 = 0
    let done = unsafe HMAC(EVP_sha256(), key, Int32(key.count), message, message.count, &code, &count)
    precondition(unsafe done != nil && count == 32, "HMAC failed")
    return code
}

/// The parts, each behind its length (8 bytes, big endian), so that no two different lists of parts give the
/// same bytes.
func framed(_ parts: [[UInt8]]) -> [UInt8] {
    var bytes: [UInt8] = []
    for part in parts {
        bytes.append(bigEndian: UInt64(part.count))
        bytes += part
    }
    return bytes
}

/// A secret key for message authentication codes over rows and tickets.
package struct MACKey: Sendable {
    /// The fewest bytes that a key may have.
    package static let byteCountMin = 32

    private let prepared: PreparedMAC

    /// Takes at least 32 secret bytes; throws `malformed` for fewer.
    package init(bytes: [UInt8]) throws(TrustError) {
        guard bytes.count >= Self.byteCountMin else {
            throw TrustError(
                .malformed, "a MAC key has at least \(Self.byteCountMin) bytes, not \(bytes.count)")
        }
        prepared = PreparedMAC(key: bytes)
    }

    /// HMAC-SHA-256 over the framed parts.
    package func mac(_ parts: [[UInt8]]) -> [UInt8] { prepared.code(of: framed(parts)) }

    /// Whether `mac` is the code of these parts; compares in constant time.
    package func isValid(_ mac: [UInt8], for parts: [[UInt8]]) -> Bool {
        constantTimeEqual(mac, self.mac(parts))
    }
}

/// HMAC-SHA-256 under one key: what the key alone decides is computed once, and libcrypto is not asked for
/// its algorithms again for each code.
@safe private final class PreparedMAC: @unchecked Sendable {
    // Never changed once it is made: each code is computed in a copy.
    private let context: OpaquePointer

    init(key: [UInt8]) {
        let algorithm = unsafe EVP_MAC_fetch(nil, "HMAC", nil)
        defer { unsafe EVP_MAC_free(algorithm) }
        guard let context = unsafe EVP_MAC_CTX_new(algorithm) else { fatalError("libcrypto has no HMAC") }
        unsafe self.context = context
        var digest = Array("SHA256".utf8CString)
        let done = unsafe digest.withUnsafeMutableBufferPointer { name in
            let parameters = unsafe [
                OSSL_PARAM_construct_utf8_string("digest", name.baseAddress, 0), OSSL_PARAM_construct_end(),
            ]
            return unsafe EVP_MAC_init(context, key, key.count, parameters)
        }
        precondition(done == 1, "HMAC failed to start")
    }

    deinit { unsafe EVP_MAC_CTX_free(context) }

    func code(of message: [UInt8]) -> [UInt8] {
        guard let copy = unsafe EVP_MAC_CTX_dup(context) else { fatalError("libcrypto is out of memory") }
        defer { unsafe EVP_MAC_CTX_free(copy) }
        var code = [UInt8](repeating: 0, count: SHA256.byteCount)
        var count = 0
        let done =
            unsafe EVP_MAC_update(copy, message, message.count) == 1
            && EVP_MAC_final(copy, &code, &count, code.count) == 1
        precondition(done && count == code.count, "HMAC failed")
        return code
    }
}

extension [UInt8] {
    /// Adds the value's bytes, the most significant first.
    mutating func append(bigEndian value: some FixedWidthInteger) {
        for shift in stride(from: value.bitWidth - 8, through: 0, by: -8) {
            append(UInt8(truncatingIfNeeded: value >> shift))
        }
    }
}

extension ArraySlice<UInt8> {
    /// Takes `count` bytes off the front; nil when there are fewer.
    mutating func take(_ count: Int) -> [UInt8]? {
        guard count >= 0, self.count >= count else { return nil }
        defer { removeFirst(count) }
        return Array(prefix(count))
    }

    /// Takes a big-endian integer off the front.
    mutating func takeInteger<Value: FixedWidthInteger>(_: Value.Type) -> Value? {
        take(Value.bitWidth / 8)?.reduce(into: Value(0)) { $0 = $0 << 8 | Value(truncatingIfNeeded: $1) }
    }
}
