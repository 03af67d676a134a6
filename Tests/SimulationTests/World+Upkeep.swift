import Domain
import Redis

@testable import Streams

/// What a worker does besides: refill, reconcile, rebuild (`Refiller`, `Reconciler`, `Rebuilder`).
extension World {
    func refill(_ worker: Worker) async throws {
        let epoch = try await epoch(of: worker)
        let marked = try await call("marked") { try await self.queue.marked(limit: 64, epoch: epoch) }
        let limits = try await commit("runLimits") { $0.runLimits }
        let roomy = marked.filter { $0.room > 0 }
        // After the marks, as whoever resumes commits before it marks.
        let holds = try await commit("holds") { records in
            roomy.map { records.holds(of: $0.queue.organization) }
        }
        var open: [Marked] = []
        for (marked, holds) in zip(roomy, holds) {
            if let limits = limits[marked.queue.organization] {
                try await bring(marked, limits, holds, worker, epoch)
            } else if !holds.isEmpty {
                try await pass(marked, holds, worker, epoch)
            } else {
                open.append(marked)
            }
        }
        guard !open.isEmpty else { return }
        worker.places = worker.places.filter { now - $0.value.looked < 2_000_000 }
        let places = open.map { worker.places[$0.queue] ?? Place(looked: now) }
        let queued = try await commit("queuedRuns") { records in
            zip(open, places).map {
                records.queuedRuns(of: $0.queue, after: $1.after, limit: Self.refillLimit)
            }
        }
        for (index, mark) in open.enumerated() {
            var place = places[index]
            let runs = queued[index]
            let isWhole = place.isFromStart && runs.count < Self.refillLimit
            let refilled = try await refill(mark, runs, more: !isWhole, epoch)
            if place.isFromStart, runs.contains(where: { lateRuns.contains($0.run) }) {
                reach(.lateCommitBelowLowWater)
            }
            place.move(by: runs.map(\.run), passed: refilled.passed, limit: Self.refillLimit)
            if refilled.cleared { place.beginPass() }
            worker.places[mark.queue] = place
        }
    }

    func refill(
        _ mark: Marked, _ runs: [Records.Row], more: Bool, _ epoch: Epoch
    ) async throws -> Refilled {
        let refilled = try await call("refill") {
            let entries = runs.map(Entry.init)
            let result = try await self.watchingReplacements(by: entries) {
                try await self.queue.refill(
                    mark.queue, version: mark.version, entries: entries, more: more, epoch: epoch)
            }
            self.checkCleared(result.cleared, mark)
            return result
        }
        if refilled.passed < runs.count { reach(.windowFull) }
        return refilled
    }

    /// A mark that was set again after it was read must not be cleared.
    func checkCleared(_ isCleared: Bool, _ mark: Marked) {
        let latest = versions[mark.queue] ?? 0
        guard latest > mark.version else { return }
        reach(.markedDuringRefill)
        if isCleared { fail("a mark was cleared that is newer than what was read") }
    }

    func sweep(_ worker: Worker) async throws {
        let epoch = try await epoch(of: worker)
        let reclaimed = try await call("reclaim") { try await self.queue.reclaim(now: 128, epoch: epoch) }
        if !reclaimed.isEmpty {
            note("reclaimed \(reclaimed.map { $0.run.short })")
            if reclaimed.contains(where: { claim in
                workers.contains { $0.owner == claim.id.prefix { $0 != " " } }
            }) {
                reach(.leaseLapsesUnderPause)
            }
        }
        let report = try await call("sweep") {
            let report = try await self.queue.sweep(epoch: epoch)
            self.bellTaken = false
            return report
        }
        if report.unparked > 0 { reach(.parkedUntilRoom) }
        if report.corrected > 0, !isFaulty { fail("the sweep corrected \(report.corrected) counters") }
    }

    /// Queues what was to wait for its time, and marks its organizations.
    func queueDue(_ worker: Worker) async throws {
        let isEarly = plan.lapse == .dueIsEarly
        let due = try await commit("queueDue") { $0.queueDue(early: isEarly) }
        guard !due.isEmpty else { return }
        for row in due { reach(row.machine.attempt == 0 ? .notBeforeHeld : .backoffHeld) }
        try await offer([], and: due.map(\.queue), by: worker)
    }

    func judgeDeadlines(_ worker: Worker) async throws {
        let undelivered = try await commit("undeliverLapsed") { $0.undeliverLapsed() }
        try await commit("awaitWord") { $0.awaitWord() }
        let ended = try await commit("expire") { $0.expire() }
        for row in ended {
            switch row.machine.state {
            case .expired: reach(.expiredUnsent)
            case .unknown: reach(.unknownAfterSilence)
            case .cancelled: reach(.cancelledAfterSilence)
            // A retry that expires unsent ends as its last attempt did.
            case .failed where row.machine.previous != nil: break
            default: fail("a deadline ended a run as \(row.machine.state)")
            }
        }
        if !undelivered.isEmpty { reach(.undeliveredByDeadline) }
        try await self.ended(ended, by: worker)
        try await returned(undelivered, by: worker)
    }

    func repeatCancels(_ worker: Worker) async throws {
        try await tellCancelled(commit("cancelsUnheard") { $0.cancelsUnheard() })
    }

    func markStragglers(_ worker: Worker) async throws {
        let late = try await commit("backlog") { $0.backlog(olderThan: 2_000_000) }
        guard !late.isEmpty else { return }
        try await withEpoch(of: worker) { epoch in try await mark(queues.filter(late.contains), epoch) }
        reach(.stragglersMarked)
    }

    func mark(_ queues: [OrganizationQueue], _ epoch: Epoch) async throws {
        try await call("mark") {
            try await self.queue.mark(queues, epoch: epoch)
            let versions = RedisCommand(
                "HMGET",
                arguments: [.string(self.queue.keys.key("versions"))]
                    + queues.map { .string($0.name) })
            let values = try await self.connection.send(versions).array ?? []
            for (queue, value) in zip(queues, values) { self.versions[queue] = value.int ?? 0 }
        }
    }

    func buryGateways(_ worker: Worker) async throws {
        let open = try await commit("openGateways") { $0.openGateways.sorted() }
        let alive = try await call("alive") { try await self.queue.alive(open) }
        for gateway in open where !alive.contains(gateway) {
            let payloads = try await call("drain") { try await self.queue.drain(gateway: gateway) }
            var items: [AttemptName] = []
            for payload in payloads {
                guard case .dispatch(let letter)? = self.letter(payload) else { continue }
                items += letter.map(\.0)
            }
            if !items.isEmpty { reach(.gatewayDiesWithLetters) }
            try await returned(commit("undeliver") { [items] in $0.undeliver(items) }, by: worker)
            try await commit("endGateway") { $0.endGateway(gateway) }
        }
    }

    func letter(_ payload: [UInt8]) -> Letter? {
        Int(String(decoding: payload, as: UTF8.self)).map { letters[$0] }
    }

    /// Wakes the waiting runs of devices that are present.
    func wakePresent(_ worker: Worker) async throws {
        let devices = try await commit("waitingDevices") { $0.waitingDevices() }
        guard !devices.isEmpty else { return }
        let present = zip(devices, try await arePresent(devices)).compactMap { $1 ? $0 : nil }
        let rows = try await commit("reconnect") { $0.reconnect(present) }
        if !rows.isEmpty { reach(.wokenByWorker) }
        try await offer(rows, by: worker)
    }

    func compareMembership(_ worker: Worker) async throws {
        let epoch = try await epoch(of: worker)
        var counted: [RunID: Int] = [:]
        var extra: [Settled] = []
        var cursor: String?
        repeat {
            let page = try await call("membership") { [cursor] in
                try await self.queue.membership(after: cursor, epoch: epoch)
            }
            let items = page.items.sorted { $0.run.run < $1.run.run }
            let running = try await commit("areRunning") { records in
                items.map { records.open[$0.run.run].flatMap { Records.isOnDevice($0) ? $0 : nil } }
            }
            for (item, row) in zip(items, running) {
                if row?.machine.generation == item.run.generation {
                    counted[item.run.run] = item.run.generation
                } else {
                    extra.append(item.run)
                }
            }
            cursor = page.next
        } while cursor != nil
        let missing = try await commit("running") { [counted] records in
            records.running().filter { counted[$0.run] != $0.machine.generation }.map(Membership.init)
        }
        guard !extra.isEmpty || !missing.isEmpty else { return }
        let result = try await call("correct") { [extra] in
            try await self.queue.correct(missing: missing, extra: extra, epoch: epoch)
        }
        if !missing.isEmpty { try await labelMissing(missing, epoch) }
        if result.added > 0 { reach(.membershipAdded) }
        if result.removed > 0 { reach(.membershipRemoved) }
    }

    // MARK: The data set

    func rebuild(_ worker: Worker) async throws {
        let place = "@\(server)"
        let kept = try await commit("epoch") { $0.epoch }
        let present = try await call("epoch") { try await self.queue.epoch() }
        if let kept, kept.id.hasSuffix(place) {
            if present?.id == kept.id { return }
            if present == nil, kept.id != worker.begun, now - kept.startedAt < 5_000_000 { return }
        }
        let epoch = Epoch("\(String(random.next(), radix: 36))\(place)")
        worker.begun = epoch.id
        guard try await commit("beginEpoch", nil, { $0.beginEpoch(epoch.id, replacing: kept?.id) }) else {
            return reach(.rebuildOvertaken)
        }
        let entitlements = try await commit("limits") { records in
            self.organizations.map { id in
                let limits = records.limits[id] ?? Records.Limits()
                return Entitlement(
                    organization: id, weight: limits.weight, cap: limits.cap,
                    interactiveRate: limits.bucket?.perSecond, interactiveBurst: limits.bucket?.burst)
            }
        }
        let pauses = try await commit("pauses") { records in
            records.controls.compactMap { if case .queues(let pause) = $0 { pause } else { nil } }
        }
        let running = try await commit("running") { $0.running().map(Membership.init) }
        let limited = try await commit("lanes") { records in
            Dictionary(
                uniqueKeysWithValues: records.runLimits.keys.map {
                    ($0, records.labelled([], andRunningOf: $0))
                })
        }
        shares.reset()
        settled = []
        do {
            try await setClock()
            try await queue.rebuild(
                epoch: epoch, entitlements: entitlements, pauses: pauses, running: running,
                limited: plan.lapse == .rebuildForgetsLimits ? [:] : limited
            ) {
                try await self.commit("keepEpoch") { $0.keepEpoch(epoch.id) }
            }
        } catch QueueError.staleEpoch {
            return reach(.rebuildOvertaken)
        }
        (shares, settled, versions) = (Shares(), [], [:])
        (rates, buckets) = ([:], [:])
        note("rebuilt as \(epoch)")
        worker.epoch = nil
        let backlog = try await commit("backlog") { $0.backlog(olderThan: 0) }
        if !backlog.isEmpty { try await mark(queues.filter(backlog.contains), epoch) }
    }
}

extension Membership {
    init(_ row: Records.Row) {
        self.init(
            organization: row.organization, run: row.run, generation: row.machine.generation,
            device: row.device, lane: row.lane, deadlineMilliseconds: row.deadline / 1_000)
    }
}
