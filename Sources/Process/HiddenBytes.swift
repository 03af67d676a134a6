/// Bytes that are lent while a child is started or fed, and of which no copy outlives that: whoever has them
/// overwrites them at their end.
package struct HiddenBytes: Sendable {
    /// How many there are.
    package let count: Int
    private let lend: @Sendable ((Span<UInt8>) -> Void) -> Void

    /// Bytes that `lend` lends for the time of each call.
    package init(count: Int, lend: @escaping @Sendable ((Span<UInt8>) -> Void) -> Void) {
        (self.count, self.lend) = (count, lend)
    }

    /// Bytes that are no secret.
    package init(_ bytes: [UInt8]) {
        self.init(count: bytes.count) { $0(bytes.span) }
    }

    /// Calls the body with the bytes.
    func withBytes(_ body: (Span<UInt8>) -> Void) { lend(body) }

    /// Whether a byte is NUL: then they are no value of a variable.
    var hasNUL: Bool {
        var found = false
        withBytes { bytes in
            for index in bytes.indices where bytes[index] == 0 { found = true }
        }
        return found
    }
}
