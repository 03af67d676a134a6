import Domain

@testable import Streams

/// What operators set: pauses, weights, caps, buckets and finer limits (`QueueControls`).
extension World {
    /// One thing that an operator sets or takes back.
    private enum Change {
        case control(Control)
        case weight, cap, bucket, limits
    }

    /// Changes one of them: committed first, then said to the queue by whoever reads it again.
    func entitle(_ caller: Process) async throws {
        let organization = random.pick(organizations)!
        switch nextChange(of: organization) {
        case .control(let control): try await toggle(control, caller)
        case .weight:
            let weight = [0.5, 1, 2, 5][random.below(4)]
            try await commit("limits") { $0.limits[organization, default: .init()].weight = weight }
            try await bring(organization, caller) { limits, epoch in
                self.reach(.weightChanges)
                self.shares.reset(organization, weighs: true)
                try await self.queue.weigh(organization: organization, weight: limits.weight, epoch: epoch)
            }
        case .cap:
            let cap = random.chance(300) ? nil : 1 + random.below(5)
            highestCaps[organization] = max(highestCaps[organization] ?? .max, cap ?? .max)
            try await commit("limits") { $0.limits[organization, default: .init()].cap = cap }
            try await bringCap(organization, caller)
        case .bucket:
            let bucket = random.chance(300) ? nil : random.bucket()
            try await commit("limits") { $0.limits[organization, default: .init()].bucket = bucket }
            try await bring(organization, caller) { limits, epoch in
                self.buckets[organization] = nil
                try await self.queue.limitInteractive(
                    organization: organization, rate: limits.bucket?.perSecond, burst: limits.bucket?.burst,
                    epoch: epoch)
            }
        case .limits:
            let limits = random.chance(300) ? nil : random.limits()
            highestLimits[organization, default: [:]].raise(by: limits)
            rates[organization] = nil
            // Workers read them by themselves.
            try await commit("runLimits") { $0.runLimits[organization] = limits }
        }
    }

    private func nextChange(of organization: OrganizationID) -> Change {
        let own = Pause(organization: organization)
        if aim == .mark, random.chance(500) { return .control(.queues(own)) }
        let controls = records.controls.sorted { "\($0)" < "\($1)" }
        if let control = random.pick(controls), random.chance(aim == .mark ? 250 : 500) {
            return .control(control)
        }
        let priority = Priority.allCases[random.below(3)]
        switch random.below(14) {
        case 0..<2: return .control(.queues(own))
        case 2: return .control(.queues(Pause(organization: nil, priority: priority)))
        case 3: return .control(.queues(Pause(organization: organization, priority: priority)))
        case 4: return .control(.queues(Pause(organization: nil)))
        case 5..<7:
            guard let job = random.pick(records.rows)?.job else { return .weight }
            return .control(.job(job))
        case 7: return .control(.kind(random.chance(500) ? organization : nil, random.pick(Self.kinds)!))
        case 8..<10: return .weight
        case 10..<12: return .cap
        case 12: return hasBuckets ? .bucket : .cap
        default: return hasLimits ? .limits : .cap
        }
    }

    /// Pauses what is not paused, and the reverse.
    private func toggle(_ control: Control, _ caller: Process) async throws {
        let isLifted = try await commit("control") { records in
            records.controls.remove(control) != nil || !records.controls.insert(control).inserted
        }
        note("\(control) \(isLifted ? "lifted" : "set")")
        try await quietly { try await follow(control, isLifted: isLifted, caller) }
    }

    private func follow(_ control: Control, isLifted: Bool, _ caller: Process) async throws {
        if case .queues(let pause) = control { try await bring(pause, caller) }
        guard isLifted else { return }
        let covered: Set<OrganizationQueue>
        switch control {
        case .queues(let pause): covered = coveredQueues(of: pause.organization)
        case .kind(let organization, _): covered = coveredQueues(of: organization)
        case .job(let job): covered = coveredQueues(of: records.jobs[job])
        }
        try await withEpoch(of: caller) { epoch in
            try await mark(queues.filter(covered.contains), epoch)
        }
    }

    private func coveredQueues(of organization: OrganizationID?) -> Set<OrganizationQueue> {
        organization.map { Set(OrganizationQueue.all(of: $0)) } ?? records.backlog(olderThan: 0)
    }

    /// Says to the queue whether this pause is in force.
    private func bring(_ pause: Pause, _ caller: Process) async throws {
        try await withEpoch(of: caller) { epoch in
            let isSet = try await commit("controls") { $0.controls.contains(.queues(pause)) }
            try await call("pause") {
                if let organization = pause.organization {
                    self.shares.reset(organization, weighs: false)
                } else {
                    self.shares.reset()
                }
                if isSet {
                    try await self.queue.pause(
                        organization: pause.organization, priority: pause.priority, epoch: epoch)
                } else {
                    try await self.queue.resume(
                        organization: pause.organization, priority: pause.priority, epoch: epoch)
                }
            }
        }
    }

    private func bringCap(_ organization: OrganizationID, _ caller: Process) async throws {
        try await bring(organization, caller) { limits, epoch in
            self.shares.reset(organization, weighs: false)
            try await self.queue.cap(organization: organization, limit: limits.cap, epoch: epoch)
        }
    }

    /// Says to the queue what an organization is entitled to, as PostgreSQL has it now.
    private func bring(
        _ organization: OrganizationID, _ caller: Process,
        _ body: (Records.Limits, Epoch) async throws -> Void
    ) async throws {
        try await quietly {
            try await withEpoch(of: caller) { epoch in
                let limits = try await commit("limits") { $0.limits[organization] ?? Records.Limits() }
                try await call("entitle") { try await body(limits, epoch) }
            }
        }
    }

    /// What an operator sees to after faults: nothing is paused or capped any more. Finer limits stay.
    func entitleAll(_ caller: Process) async throws {
        records.controls = []
        for organization in organizations {
            records.limits[organization]?.cap = nil
            highestCaps[organization] = .max
        }
        let everywhere: [OrganizationID?] = [nil] + organizations.map { $0 }
        for organization in everywhere {
            for priority in [nil] + Priority.allCases {
                let pause = Pause(organization: organization, priority: priority)
                if try await queue.pauses().contains(pause) { try await bring(pause, caller) }
            }
        }
        for organization in organizations { try await bringCap(organization, caller) }
        isEntitled = true
    }

    static let kinds = ["install", "patch", "restart"]
}

extension Generator {
    /// A bucket that a small world empties.
    mutating func bucket() -> RunRate { RunRate(perSecond: 0.5, burst: below(4)) }

    /// Limits that a small world meets: of one scope or two.
    mutating func limits() -> RunLimits {
        var limits = RunLimits()
        for _ in 0..<1 + below(2) { limits.running[pick(LimitScope.allCases)!] = 1 + below(3) }
        if chance(300) { limits.rate = RunRate(perSecond: [1, 5][below(2)], burst: 1 + below(4)) }
        return limits
    }
}

extension [LimitScope: Int] {
    /// Takes limits in of which the highest are kept; no limit is the highest.
    mutating func raise(by limits: RunLimits?) {
        for scope in LimitScope.allCases {
            self[scope] = Swift.max(self[scope] ?? 0, limits?.running[scope] ?? .max)
        }
    }
}
