import Domain

@testable import Streams

/// What callers and operators do through the API (`Submitter`).
extension World {
    func submit(_ caller: Process) async throws {
        guard runsLeft > 0 else { return }
        let organization = aim == .lateCommit ? devices[0].organization : random.pick(organizations)!
        let own = devices.filter { $0.organization == organization }
        guard !own.isEmpty else { return }
        let count = min(runsLeft, 1 + random.below(random.chance(200) ? 30 : 6))
        runsLeft -= count
        let lasts = [8_000_000, 60_000_000, 600_000_000][random.below(3)]
        let rows = (0..<count).map { _ in
            var row = Records.Row(
                run: names.next(), organization: organization, device: random.pick(own)!.id,
                lane: random.chance(800) ? .script : .interactive,
                priority: aim == .lateCommit || random.chance(400)
                    ? .standard : random.chance(600) ? .interactive : .bulk)
            row.expiresAt = now + lasts
            row.triesLeft = random.below(3)
            return row
        }
        // A commit may be late: its ids are drawn before.
        for _ in 0..<3 { try await park("submit") }
        let isKept = try await commit("submit") { records in
            for row in rows
            where self.workers.contains(where: { $0.places[row.queue]?.low ?? row.run > row.run }) {
                self.lateRuns.insert(row.run)
            }
            records.insert(rows)
            self.committed.formUnion(rows.map(\.run))
            return true
        }
        guard isKept else { return }
        note("submitted \(rows.map { $0.run.short }) of \(organization.short)")
        try await offer(rows, by: caller)
    }

    func cancelRun(_ caller: Process) async throws {
        var rows = records.rows
        if aim == .cancel || aim == .silence, random.chance(700) {
            rows = rows.filter { Records.isOnDevice($0) && $0.cancelledAt == nil }
        }
        guard let run = random.pick(rows)?.run else { return }
        note("cancel \(run.short)")
        let (ended, sent) = try await commit("cancel") { $0.cancel(run) }
        if let ended {
            reach(.cancelUnsent)
            try await self.ended([ended], by: caller)
        }
        if let sent { try await tellCancelled([sent]) }
    }

    func tellCancelled(_ rows: [Records.Row]) async throws {
        guard !rows.isEmpty else { return }
        try await quietly {
            let presences = try await call("presence") {
                try await self.queue.presence(of: rows.map(\.device))
            }
            for (row, presence) in zip(rows, presences) {
                guard let presence, let name = row.name else { continue }
                letters.append(.cancel([(name, row.device)]))
                let letter = Streams.Letter(
                    gateway: presence.gateway, payload: Array("\(letters.count - 1)".utf8))
                posted.insert(presence.gateway)
                _ = try await call("deliver") { try await self.queue.deliver([letter], max: 3) }
            }
        }
    }

    /// Changes an organization's pause, weight or cap: committed first, then said to the queue.
    func entitle(_ caller: Process) async throws {
        let organization = random.pick(organizations)!
        let choice = aim == .mark && random.chance(500) ? 0 : random.below(4)
        let cap = random.chance(300) ? nil : 1 + random.below(5)
        let weight = [0.5, 1, 2, 5][random.below(4)]
        let limits = try await commit("limits") { records in
            var limits = records.limits[organization] ?? Records.Limits()
            switch choice {
            case 0: limits.isPaused.toggle()
            case 1: limits.weight = weight
            default: limits.cap = cap
            }
            records.limits[organization] = limits
            return limits
        }
        highestCaps[organization] = max(highestCaps[organization] ?? .max, limits.cap ?? .max)
        try await quietly { try await entitle(organization, limits, choice, caller) }
    }

    private func entitle(
        _ organization: OrganizationID, _ limits: Records.Limits, _ choice: Int, _ caller: Process
    ) async throws {
        try await withEpoch(of: caller) { epoch in
            try await call("entitle") {
                self.shares.reset(organization, weighs: choice == 1)
                switch choice {
                case 0 where limits.isPaused:
                    try await self.queue.pause(organization: organization, epoch: epoch)
                case 0: try await self.queue.resume(organization: organization, epoch: epoch)
                case 1:
                    self.reach(.weightChanges)
                    try await self.queue.weigh(
                        organization: organization, weight: limits.weight, epoch: epoch)
                default: try await self.queue.cap(organization: organization, limit: limits.cap, epoch: epoch)
                }
            }
        }
    }

    /// All entitlements as PostgreSQL has them: what an operator sees to after faults.
    func entitleAll(_ caller: Process) async throws {
        for organization in organizations {
            records.limits[organization]?.isPaused = false
            records.limits[organization]?.cap = nil
            highestCaps[organization] = .max
            let limits = records.limits[organization] ?? Records.Limits()
            for choice in [0, 2] { try await entitle(organization, limits, choice, caller) }
        }
        isEntitled = true
    }
}
