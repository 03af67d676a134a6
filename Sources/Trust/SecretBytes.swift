import COpenSSL

/// Bytes that nobody may see by accident: they lie in memory of their own that is overwritten at the end, and
/// no text, mirror or dump of whatever holds them shows more than that they are there.
///
/// There is no way to encode them. Sendable because they never change after they are made.
@safe package final class SecretBytes: @unchecked Sendable {
    private let buffer: UnsafeMutableBufferPointer<UInt8>

    /// A copy of `bytes`; the caller's own array stays as it is.
    package convenience init(_ bytes: [UInt8]) {
        unsafe self.init(count: bytes.count) { buffer in
            _ = unsafe buffer.update(fromContentsOf: bytes)
        }
    }

    /// So many bytes of the library's cryptographic generator.
    package convenience init(random count: Int) {
        unsafe self.init(count: count) { buffer in
            precondition(
                unsafe RAND_bytes(buffer.baseAddress, Int32(count)) == 1, "the random generator failed")
        }
    }

    /// So many bytes that `fill` writes; they are zero before, and zero again if it throws.
    init<Failure: Error>(
        count: Int, fill: (UnsafeMutableBufferPointer<UInt8>) throws(Failure) -> Void
    ) throws(Failure) {
        // Never of no bytes, so that there is always an address to give to the library.
        let memory = UnsafeMutablePointer<UInt8>.allocate(capacity: max(1, count))
        unsafe memory.initialize(repeating: 0, count: max(1, count))
        unsafe buffer = UnsafeMutableBufferPointer(start: memory, count: count)
        try unsafe fill(buffer)
    }

    deinit {
        unsafe OPENSSL_cleanse(buffer.baseAddress, buffer.count)
        unsafe buffer.deallocate()
    }

    /// How many there are.
    package var count: Int { unsafe buffer.count }

    /// Lends the bytes for the time of the call.
    package func withBytes<Result, Failure: Error>(
        _ body: (Span<UInt8>) throws(Failure) -> Result
    ) throws(Failure) -> Result {
        try body(unsafe UnsafeBufferPointer(buffer).span)
    }

    /// A copy that is not overwritten at its end: for what takes nothing else.
    package func copy() -> [UInt8] { unsafe Array(buffer) }

    /// A secret of its own with some of these bytes.
    package func part(_ range: Range<Int>) -> SecretBytes {
        unsafe SecretBytes(count: range.count) { part in
            _ = unsafe part.update(fromContentsOf: buffer[range])
        }
    }

    /// The address of the first byte, valid as long as this object.
    var address: UnsafeMutablePointer<UInt8> {
        guard let address = unsafe buffer.baseAddress else { preconditionFailure("a buffer without memory") }
        return unsafe address
    }
}

extension SecretBytes: Equatable {
    /// Whether both are equal, in a time that depends on their length alone.
    package static func == (left: SecretBytes, right: SecretBytes) -> Bool {
        unsafe left.count == right.count && CRYPTO_memcmp(left.address, right.address, left.count) == 0
    }
}

extension SecretBytes: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// That there is a secret.
    package var description: String { "(secret)" }

    /// That there is a secret.
    package var debugDescription: String { description }

    /// Nothing.
    package var customMirror: Mirror { Mirror(self, children: []) }
}
