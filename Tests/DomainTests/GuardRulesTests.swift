import Testing

@testable import Domain

@Suite("Thresholds of a guard")
struct GuardRulesTests {
    private func rules(
        _ confirm: Int, _ approve: Int?, _ permissions: Set<String>, _ seconds: Int
    ) -> GuardRules {
        GuardRules(
            confirmAbove: confirm, approveAbove: approve, stepUpPermissions: permissions,
            stepUpSeconds: seconds)
    }

    @Test("the stricter of two has each threshold of the one that stops more, whichever stands first")
    func stricter() {
        let one = rules(10, nil, ["a", "b"], 60)
        let other = rules(20, 500, ["b", "c"], 30)
        let both = rules(10, 500, ["a", "b", "c"], 30)
        #expect(one.stricter(with: other) == both)
        #expect(other.stricter(with: one) == both)
        #expect(one.stricter(with: one) == one)
        #expect(both.stricter(with: other) == both)
    }

    @Test("whatever lets something through that was stopped is looser, also where the rest is stricter")
    func looser() {
        let base = rules(10, 100, ["a"], 60)
        for loose in [
            rules(11, 100, ["a"], 60), rules(10, 101, ["a"], 60), rules(10, nil, ["a"], 60),
            rules(10, 100, [], 60), rules(10, 100, ["b"], 60), rules(10, 100, ["a"], 61),
            rules(0, 0, [], 1),
        ] {
            #expect(loose.isLooser(than: base), "\(loose)")
        }
        for strict in [
            base, rules(9, 100, ["a"], 60), rules(10, 0, ["a"], 60), rules(10, 100, ["a", "b"], 60),
            rules(10, 100, ["a"], 59),
        ] {
            #expect(!strict.isLooser(than: base), "\(strict)")
        }
    }
}
