import Testing
import Wire

@Suite struct FeaturesTests {
    @Test("A header names what is known of it, whatever stands beside")
    func header() {
        #expect(Features(header: [Features.known.header]) == .known)
        #expect(Features(header: ["traces"]) == .traces)
        #expect(Features(header: ["later,traces , clock", "secrets"]) == [.traces, .secrets, .clock])
        #expect(Features(header: ["", "Traces", "trace", "traces;q=1", "clock\u{e9}"]) == [])
        #expect(Features(header: [String]()) == [])
        #expect(Features([.traces, .limits]).header == "traces, limits")
        #expect(Features([]).header == "")
        let far = String(repeating: "x", count: Features.headerBytesMax) + ",traces"
        #expect(Features(header: [far]) == [], "what stands behind is overlooked")
    }

    @Test("An output is cut to what a gateway takes: head and tail stay the first and the last")
    func cut() {
        var limits = SessionLimits.own
        (limits.outputHeadBytes, limits.outputTailBytes) = (3, 2)
        func cut(_ head: [UInt8], _ tail: [UInt8], _ bytes: Int) -> OutputExcerpt {
            OutputExcerpt(head: head, tail: tail, bytes: bytes).cut(to: limits)
        }
        #expect(cut([1, 2, 3], [4, 5], 5) == OutputExcerpt(head: [1, 2, 3], tail: [4, 5], bytes: 5))
        #expect(cut([1, 2, 3, 4], [], 4) == OutputExcerpt(head: [1, 2, 3], tail: [4], bytes: 4))
        #expect(cut([1, 2, 3, 4, 5], [6, 7], 7) == OutputExcerpt(head: [1, 2, 3], tail: [6, 7], bytes: 7))
        #expect(cut([1, 2, 3, 4, 5], [8, 9], 9) == OutputExcerpt(head: [1, 2, 3], tail: [8, 9], bytes: 9))
        #expect(cut([1, 2], [7, 8, 9], 9) == OutputExcerpt(head: [1, 2], tail: [8, 9], bytes: 9))
        let whole = OutputExcerpt(head: [1], tail: [], bytes: 1)
        #expect(whole.cut(to: limits) == whole)
    }
}
