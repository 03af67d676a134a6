import COpenSSL

/// What one scrypt (RFC 7914) costs: N = 2^`log2N`, block size r, parallelism p.
///
/// It takes 128·N·r bytes of memory and time in proportion to N·r·p.
package struct Scrypt: Sendable, Hashable {
    /// The most memory that is spent on one, whatever a kept hash asks for.
    package static let memoryBytesMax = 128 << 20
    /// The most time: the largest N·r·p, four times that of N = 2^17, r = 8, p = 1.
    package static let workMax = 1 << 22

    /// N is 2 to this power.
    package let log2N: Int
    /// The block size.
    package let r: Int
    /// The parallelism, which the library works off one after the other.
    package let p: Int

    /// Throws `limit` unless N is 2^1 to 2^20, r 1 to 32, p 1 to 16, and memory and time within their bounds.
    package init(log2N: Int, r: Int, p: Int) throws(TrustError) {
        guard 1...20 ~= log2N, 1...32 ~= r, 1...16 ~= p, 128 * r << log2N <= Self.memoryBytesMax,
            r * p << log2N <= Self.workMax
        else { throw TrustError(.limit, "scrypt with ln=\(log2N),r=\(r),p=\(p) costs too much") }
        self.init(unchecked: log2N, r, p)
    }

    private init(unchecked log2N: Int, _ r: Int, _ p: Int) { (self.log2N, self.r, self.p) = (log2N, r, p) }

    /// N = 2^15, r = 8, p = 3, one of the equivalent settings of OWASP's cheat sheet: 32 MiB and about 370 ms
    /// of one core. N = 2^17 with p = 1, its first, takes 128 MiB and about 480 ms.
    package static let standard = Scrypt(unchecked: 15, 8, 3)

    /// So many bytes from password and salt; throws `library` when the memory is not to be had. Blocks the
    /// thread for as long as it takes.
    package func derive(password: [UInt8], salt: [UInt8], count: Int) throws(TrustError) -> [UInt8] {
        var key = [UInt8](repeating: 0, count: count)
        // The library counts the p blocks and a working block too.
        let memoryBytes = UInt64(128 * r * ((1 << log2N) + p + 2))
        // The library takes no address as an empty password.
        let result = unsafe password.withUnsafeBytes { password in
            unsafe EVP_PBE_scrypt(
                password.baseAddress?.assumingMemoryBound(to: CChar.self), password.count, salt, salt.count,
                1 << UInt64(log2N), UInt64(r), UInt64(p), memoryBytes, &key, count)
        }
        try check(result, "derive a key with scrypt")
        return key
    }
}
