import COpenSSL

/// `count` bytes of the library's cryptographic generator; a generator that fails ends the process, since
/// nothing safe can follow.
package func randomBytes(_ count: Int) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    precondition(unsafe RAND_bytes(&bytes, Int32(count)) == 1, "the random generator failed")
    return bytes
}

/// Whether both are equal, in a time that depends on their length alone.
package func constantTimeEqual(_ left: [UInt8], _ right: [UInt8]) -> Bool {
    unsafe left.count == right.count && CRYPTO_memcmp(left, right, left.count) == 0
}

/// Words of the library's generator, several a call: the system's own costs a call to the kernel for each.
package struct RandomWords: RandomNumberGenerator {
    private var bytes: ArraySlice<UInt8> = []
    private let wordsAtOnce: Int

    /// Words, so many a call.
    package init(atOnce: Int) { wordsAtOnce = atOnce }

    /// The next word.
    package mutating func next() -> UInt64 {
        if bytes.isEmpty { bytes = randomBytes(8 * wordsAtOnce)[...] }
        defer { bytes.removeFirst(8) }
        return bytes.prefix(8).reduce(0) { $0 << 8 | UInt64($1) }
    }
}
