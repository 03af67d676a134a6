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
        let isPoisoned = poisonLeft > 0
        let lasts = isPoisoned ? 600_000_000 : [8_000_000, 60_000_000, 600_000_000][random.below(3)]
        let waits = random.chance(120) ? 1 + random.below(min(lasts / 2, 20_000_000)) : 0
        let policy = RetryPolicy(
            maximumAttempts: 1 + random.below(3), backoffSeconds: 1, maximumBackoffSeconds: 5,
            outcomes: [.failed])
        let job: JobID = names.next()
        let kind = random.pick(Self.kinds)!
        var rows = (0..<count).map { index in
            let device = random.pick(own)!
            var row = Records.Row(
                run: names.next(), organization: organization, device: device.id,
                lane: random.chance(800) ? .script : .interactive,
                priority: aim == .lateCommit || random.chance(400)
                    ? .standard : random.chance(600) ? .interactive : .bulk,
                job: job, site: device.site, kind: kind)
            row.machine = RunMachine(scheduled: waits > 0)
            (row.dueAt, row.expiresAt) = (waits > 0 ? now + waits : 0, now + lasts)
            row.policy = policy
            return row
        }
        if isPoisoned, let row = random.pick(rows) {
            poison.insert(row.run)
            poisonLeft -= 1
        }
        if waits == 0 {
            let away = try await away(of: rows.map(\.device), by: caller)
            for index in rows.indices where away.contains(rows[index].device) {
                try rows[index].machine.wait(generation: 1)
            }
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
        guard waits == 0 else { return }
        try await offer(rows.filter { $0.machine.state == .queued }, by: caller)
        try await putBack(rows.filter { $0.machine.state == .waiting }.map(\.device), by: caller)
    }

    /// Those of these devices that nobody holds, where the caller looks and is answered.
    private func away(of devices: [DeviceID], by caller: Process) async throws -> Set<DeviceID> {
        // Seldom, where nothing is made of it: what waits from its commit on meets nothing of the queue.
        let often = aim == .committing ? 800 : 100
        guard random.chance(often), now - caller.epochSince >= 2_000_000 else { return [] }
        var away: Set<DeviceID> = []
        try await quietly {
            let presences = try await call("presence") { try await self.queue.presence(of: devices) }
            away = Set(zip(devices, presences).filter { $1 == nil }.map(\.0))
        }
        if !away.isEmpty { reach(.committedAsWaiting) }
        return away
    }

    /// Looks again at devices whose runs were committed as waiting.
    private func putBack(_ devices: [DeviceID], by caller: Process) async throws {
        guard !devices.isEmpty, plan.lapse != .submissionLooksOnce else { return }
        try await quietly {
            let back = zip(devices, try await arePresent(devices)).compactMap { $1 ? $0 : nil }
            guard !back.isEmpty else { return }
            reach(.deviceComesWhileCommitted)
            try await offer(try await commit("reconnect") { $0.reconnect(back) }, by: caller)
        }
    }

    func cancelRun(_ caller: Process) async throws {
        var rows = records.rows
        if aim == .cancel || aim == .silence, random.chance(700) {
            rows = rows.filter { Records.isOnDevice($0) && $0.cancelledAt == nil }
        }
        guard let row = random.pick(rows) else { return }
        let run = row.run
        note("cancel \(run.short)")
        if row.machine.state == .scheduled { reach(.cancelledWhileScheduled) }
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
}
