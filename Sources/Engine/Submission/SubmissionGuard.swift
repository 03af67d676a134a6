package import Domain

/// How far a submission reaches.
package struct SubmissionReach: Sendable, Hashable {
    /// How many devices, and of which organizations.
    package var devices = 0
    package var organizations: Set<OrganizationID> = []
    /// The site that all of it lies in, where it is one.
    package var site: SiteID?

    /// Whether it is one job that is expanded later, and then stops at the number that was said.
    package var isExpanded = false

    /// No reach.
    package init() {}
}

/// What may be submitted without more ado, and what was said of how far it reaches.
///
/// Above the guard's first threshold, and always where several organizations are reached, the exact number of
/// devices has to be confirmed; above the second a second person has to approve. The number is that of the
/// submission. A job for a site or an organization is expanded later, and then reaches no more devices than
/// were confirmed, or than may be reached unconfirmed: those that were enrolled since are left out.
package struct SubmissionGuard: Sendable {
    /// What is known of how far it reaches.
    package enum Word: Sendable, Hashable {
        /// Nothing was said.
        case none
        /// The caller says that it is so many devices.
        case confirmed(Int)
        /// A second person has approved so many devices.
        case approved(Int)
    }

    /// The strictest thresholds of what some organizations belong to; refuses where they were altered.
    package typealias Rules = @Sendable (Set<OrganizationID>) async throws -> GuardRules

    /// How many devices the jobs that are let through may reach at the most.
    struct Clearance {
        /// The most, and whether it is a number that was said; `nil` is no bound.
        fileprivate var bound: (devices: Int, wasSaid: Bool)?

        /// The bound of one job that reached so many when it was judged. What was said of several jobs
        /// together binds each to its own number.
        func devicesMax(of expected: Int, isAlone: Bool) -> Int? {
            bound.map { $0.wasSaid && !isAlone ? expected : $0.devices }
        }
    }

    private let word: Word
    private let field: String
    private let rules: Rules?

    /// A guard that knows its thresholds, what was said, and in which field it would be.
    package init(_ word: Word, field: String, rules: @escaping Rules) {
        self.word = word
        self.field = field
        self.rules = rules
    }

    private init() {
        word = .none
        field = ""
        rules = nil
    }

    /// No guard: of what has been judged before.
    package static let none = SubmissionGuard()

    /// Lets a submission through, or refuses it.
    package func require(_ reach: SubmissionReach) async throws { _ = try await judge(reach) }

    func judge(_ reach: SubmissionReach) async throws -> Clearance {
        guard let asked = rules, reach.devices > 0 else { return Clearance() }
        let rules = try await asked(reach.organizations)
        switch word {
        case .approved(let approved):
            // Of one job the expansion stops there; of a list, or of several jobs, nobody would know where.
            guard reach.devices <= approved || reach.isExpanded else {
                throw refusal(
                    .confirmationRequired, reach,
                    "reaches \(reach.devices) devices by now, and \(approved) were approved; submit it again")
            }
            return Clearance(bound: (approved, true))
        case .confirmed(let confirmed):
            guard confirmed == reach.devices else {
                throw refusal(
                    .confirmationRequired, reach,
                    "is \(confirmed), but \(reach.inWords) would be reached now; look again")
            }
            try requireNobody(rules, reach)
            return Clearance(bound: (confirmed, true))
        case .none:
            guard reach.devices <= rules.confirmAbove, reach.organizations.count < 2 else {
                throw refusal(
                    .confirmationRequired, reach,
                    "is missing; \(reach.inWords) would be reached, and more than \(rules.confirmAbove), or "
                        + "those of several organizations, are confirmed by their exact number")
            }
            try requireNobody(rules, reach)
            return Clearance(bound: (max(1, rules.confirmAbove), false))
        }
    }

    private func requireNobody(_ rules: GuardRules, _ reach: SubmissionReach) throws(EngineError) {
        guard let above = rules.approveAbove, reach.devices > above else { return }
        var refusal = EngineError(
            .approvalRequired,
            "\(reach.inWords) would be reached, and more than \(above) take a second person's approval")
        refusal.reach = reach
        throw refusal
    }

    private func refusal(
        _ code: EngineError.Code, _ reach: SubmissionReach, _ message: String
    ) -> EngineError {
        var refusal = EngineError(code, field: field, message)
        refusal.reach = reach
        return refusal
    }
}

extension SubmissionReach {
    /// `1200 devices of 3 organizations`
    fileprivate var inWords: String {
        organizations.count == 1
            ? "\(devices) devices" : "\(devices) devices of \(organizations.count) organizations"
    }
}
