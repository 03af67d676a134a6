/// The place of a request in a trace, as W3C Trace Context has it: what follows one thing through the logs
/// of all that touch it.
///
/// It comes from outside and proves nothing: nothing is decided by it.
package struct TraceContext: Sendable, Hashable {
    /// The trace's id, never zero.
    package let trace: UniqueID
    /// The step within it, never zero: of a request that came, the caller's.
    package let span: UInt64
    /// Whether the caller may have recorded the trace.
    package let isSampled: Bool

    init?(trace: UniqueID, span: UInt64, isSampled: Bool) {
        guard trace != .zero, span != 0 else { return nil }
        (self.trace, self.span, self.isSampled) = (trace, span, isSampled)
    }

    /// The context of a `traceparent`; `nil` for text that is none, which asks for a new trace.
    ///
    /// `00-<32 hexadecimal digits>-<16>-<2>` in lower case, neither number zero. A later version than 00 may
    /// go on behind a hyphen, and its beginning is read like that.
    package init?(_ text: String) {
        let text = Array(text.utf8.prefix(Self.bytesMax + 1))
        guard (Self.length...Self.bytesMax).contains(text.count),
            [2, 35, 52].allSatisfy({ text[$0] == UInt8(ascii: "-") }),
            let version = Self.number(text[0..<2]), version != 0xFF,
            let high = Self.number(text[3..<19]), let low = Self.number(text[19..<35]),
            let span = Self.number(text[36..<52]), let flags = Self.number(text[53..<55])
        else { return nil }
        guard text.count == Self.length || version > 0 && text[Self.length] == UInt8(ascii: "-") else {
            return nil
        }
        self.init(trace: UniqueID(high: high, low: low), span: span, isSampled: flags & 1 == 1)
    }

    /// The context of 25 bytes: trace, span, flags; `nil` for any others.
    package init?(bytes: [UInt8]) {
        guard bytes.count == 25, let trace = UniqueID(bytes: bytes[0..<16]) else { return nil }
        self.init(
            trace: trace, span: bytes[16..<24].reduce(0) { $0 << 8 | UInt64($1) },
            isSampled: bytes[24] & 1 == 1)
    }

    /// A trace that begins here.
    package static func new() -> TraceContext {
        var random = SystemRandomNumberGenerator()
        return new(using: &random)
    }

    /// A trace that begins here, by a given source of randomness.
    package static func new(using random: inout some RandomNumberGenerator) -> TraceContext {
        // Random words that are zero do not happen; a trace of them would be none.
        TraceContext(
            trace: UniqueID(high: random.next() | 1, low: random.next()), span: random.next() | 1,
            isSampled: false)!
    }

    /// The same trace in a step of its own.
    package func next(using random: inout some RandomNumberGenerator) -> TraceContext {
        TraceContext(trace: trace, span: random.next() | 1, isSampled: isSampled)!
    }

    /// The 25 bytes that it is kept as.
    package var bytes: [UInt8] {
        let step: [UInt8] = (0..<8).map { UInt8(truncatingIfNeeded: span >> (56 - 8 * UInt64($0))) }
        return trace.bytes + step + [isSampled ? 1 : 0]
    }

    /// The trace's id as logs have it: 32 hexadecimal digits.
    package var traceID: String { Self.digits(trace.high) + Self.digits(trace.low) }

    /// The `traceparent` of version 00.
    package var traceparent: String {
        "00-\(traceID)-\(Self.digits(span))-\(isSampled ? "01" : "00")"
    }

    /// What the running task serves, if it serves a request.
    @TaskLocal package static var current: TraceContext?

    /// Bytes of a `traceparent` of version 00, and the most that are looked at.
    package static let length = 55
    package static let bytesMax = 512

    /// The number of lower-case hexadecimal digits, at most 16.
    private static func number(_ digits: ArraySlice<UInt8>) -> UInt64? {
        var number: UInt64 = 0
        for digit in digits {
            switch digit {
            case UInt8(ascii: "0")...UInt8(ascii: "9"): number = number << 4 | UInt64(digit - 0x30)
            case UInt8(ascii: "a")...UInt8(ascii: "f"): number = number << 4 | UInt64(digit - 0x57)
            default: return nil
            }
        }
        return number
    }

    private static func digits(_ number: UInt64) -> String {
        let text = String(number, radix: 16)
        return String(repeating: "0", count: 16 - text.utf8.count) + text
    }
}
