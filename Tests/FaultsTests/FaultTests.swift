import Faults
import Testing

/// A fault strikes where, how and when it was said, and never without permission.
struct FaultTests {
    private func fault(_ text: String?, allowed: String? = "yes") throws -> Fault? {
        try Fault { name in
            switch name {
            case Fault.variable: text
            case Fault.permission: allowed
            default: nil
            }
        }
    }

    @Test("it strikes once, at the passage that was said, and at no other point")
    func strikes() throws {
        var fault = try #require(try fault("dispatcher.afterMark:stop:3"))
        #expect(fault.point == .dispatcherAfterMark && fault.action == .stop)
        let passages = (0..<3).map { _ in
            (fault.strikes(at: .dispatcherAfterClaim), fault.strikes(at: .dispatcherAfterMark))
        }
        #expect(passages.map(\.0) == [false, false, false])
        #expect(passages.map(\.1) == [false, false, true])
        let strikesAgain = fault.strikes(at: .dispatcherAfterMark)
        #expect(!strikesAgain)
    }

    @Test("nothing is armed where nothing is said")
    func none() throws {
        #expect(try fault(nil) == nil)
        #expect(try fault("") == nil)
    }

    @Test("a fault without permission is refused", arguments: [nil, "", "no", "1"])
    func notAllowed(_ permission: String?) {
        #expect(throws: FaultRefusal.self) { try fault("api.afterCommit:kill:1", allowed: permission) }
    }

    @Test(
        "what cannot be read is refused, with all points",
        arguments: [
            "api.afterCommit", "api.afterCommit:kill", "api.afterCommit:kill:0", "api.afterCommit:kill:-1",
            "api.afterCommit:kill:x", "api.afterCommit:crash:1", "nowhere:kill:1", "api.afterCommit:kill:1:2",
        ])
    func unreadable(_ text: String) {
        let refusal = #expect(throws: FaultRefusal.self) { try fault(text) }
        for point in FaultPoint.allCases {
            #expect(refusal?.description.contains(point.rawValue) == true)
        }
    }
}
