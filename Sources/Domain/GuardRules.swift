/// How far one act may reach without more ado: the thresholds of a partner's guard.
package struct GuardRules: Sendable, Hashable {
    /// A submission that reaches more devices than this has their number confirmed.
    package var confirmAbove: Int
    /// One that reaches more than this waits for a second person; `nil` means that none does.
    package var approveAbove: Int?
    /// Permissions, by their words, that a person uses only with a fresh second factor.
    package var stepUpPermissions: Set<String>
    /// For how many seconds a second factor is fresh.
    package var stepUpSeconds: Int

    /// Thresholds.
    package init(
        confirmAbove: Int, approveAbove: Int?, stepUpPermissions: Set<String>, stepUpSeconds: Int
    ) {
        self.confirmAbove = confirmAbove
        self.approveAbove = approveAbove
        self.stepUpPermissions = stepUpPermissions
        self.stepUpSeconds = stepUpSeconds
    }

    /// Each threshold the stricter one of the two.
    package func stricter(with other: GuardRules) -> GuardRules {
        GuardRules(
            confirmAbove: min(confirmAbove, other.confirmAbove),
            approveAbove: min(approveAbove ?? .max, other.approveAbove ?? .max).unlessUnlimited,
            stepUpPermissions: stepUpPermissions.union(other.stepUpPermissions),
            stepUpSeconds: min(stepUpSeconds, other.stepUpSeconds))
    }

    /// Whether anything is let through here that the other stops.
    package func isLooser(than other: GuardRules) -> Bool { stricter(with: other) != self }
}

extension Int {
    fileprivate var unlessUnlimited: Int? { self == .max ? nil : self }
}
