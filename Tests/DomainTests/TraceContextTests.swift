import Domain
import Testing

@Suite struct TraceContextTests {
    private static let trace = "0af7651916cd43dd8448eb211c80319c"
    private static let text = "00-\(trace)-b7ad6b7169203331-01"

    @Test("A traceparent is the same as text, as bytes and after both")
    func roundTrip() throws {
        let context = try #require(TraceContext(Self.text))
        #expect(context.traceparent == Self.text && context.traceID == Self.trace && context.isSampled)
        #expect(context.bytes.count == 25 && TraceContext(bytes: context.bytes) == context)
        let small = try #require(TraceContext("00-00000000000000000000000000000001-0000000000000002-00"))
        #expect(small.traceparent == "00-00000000000000000000000000000001-0000000000000002-00")
        #expect(TraceContext(bytes: small.bytes) == small && !small.isSampled)
    }

    @Test("A next step stays in the trace, and a new trace is another one")
    func steps() throws {
        let context = try #require(TraceContext(Self.text))
        var random = SystemRandomNumberGenerator()
        let next = context.next(using: &random)
        #expect(next.traceID == context.traceID && next.span != context.span && next.isSampled)
        #expect(TraceContext.new().trace != TraceContext.new().trace)
        #expect(TraceContext(TraceContext.new().traceparent) != nil)
    }

    @Test("Later versions are read by their beginning, and only the flag that is known is kept")
    func later() throws {
        let later = try #require(TraceContext("cc-\(Self.trace)-b7ad6b7169203331-ff-what-comes"))
        #expect(later.traceparent == Self.text)
        #expect(TraceContext("cc-\(Self.trace)-b7ad6b7169203331-00")?.isSampled == false)
        let long = "cc-\(Self.trace)-b7ad6b7169203331-01-"
        let most = TraceContext.bytesMax - long.utf8.count
        #expect(TraceContext(long + String(repeating: "x", count: most)) != nil)
        #expect(TraceContext(long + String(repeating: "x", count: most + 1)) == nil)
    }

    @Test(
        "What is no traceparent is none",
        arguments: [
            "", "00", "00-\(trace)-b7ad6b7169203331", "00-\(trace)-b7ad6b7169203331-1",
            "00-\(trace)-b7ad6b7169203331-01-", "00-\(trace)-b7ad6b7169203331-01-more",
            "ff-\(trace)-b7ad6b7169203331-01", "0x-\(trace)-b7ad6b7169203331-01",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-\(trace)-0000000000000000-01", "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00_\(trace)_b7ad6b7169203331_01", "00-\(trace)-b7ad6b716920333g-01",
            "cc-\(trace)-b7ad6b7169203331-01.", " 00-\(trace)-b7ad6b7169203331-01",
            "00-\(trace)-b7ad6b716920333é-0",
        ])
    func refused(text: String) {
        #expect(TraceContext(text) == nil)
    }

    @Test("Bytes of another number, and zeros, are none")
    func bytes() throws {
        let bytes = try #require(TraceContext(Self.text)).bytes
        #expect(TraceContext(bytes: Array(bytes.dropLast())) == nil)
        #expect(TraceContext(bytes: bytes + [0]) == nil)
        #expect(TraceContext(bytes: [UInt8](repeating: 0, count: 25)) == nil)
    }
}
