import Domain
import Redis

@testable import Streams

/// What a worker's dispatcher does (`Dispatcher`).
extension World {
    func dispatch(_ worker: Worker) async throws {
        if random.chance(500) {
            _ = try await call("bell") {
                let key = self.queue.keys.key("bell")
                if try await self.connection.send(RedisCommand("LPOP", .string(key))) != .null {
                    self.bellTaken = true
                    self.running?.tookBell = true
                }
            }
        }
        guard try await isGateOpen(worker) else { return }
        let epoch = try await epoch(of: worker)
        // Another of its dispatchers tries a suspect.
        guard worker.crashes != .alone else { return try await passOnBell(epoch) }
        let suspects = try await worker.share {
            let claims: Claims
            do {
                claims = try await call("claim", .claimReplyLost) { try await self.claim(worker, epoch) }
            } catch QueueError.staleEpoch {
                worker.epoch = nil
                return [Claim]()
            }
            guard !claims.items.isEmpty else { return [] }
            try await takeBackNotes(worker)
            try await pass(claims.items.filter { $0.crashes == 0 }, worker, epoch)
            return claims.items.filter { $0.crashes > 0 }
        }
        try await tryAlone(suspects, worker, epoch)
    }

    /// Whether this worker may claim, as far as it has read within half a second.
    private func isGateOpen(_ worker: Worker) async throws -> Bool {
        if now - worker.gate.read >= 500_000 {
            let read = now
            worker.gate = (try await commit("isEverythingPaused") { $0.isEverythingPaused }, read)
        }
        guard worker.gate.isClosed else { return true }
        reach(.gateClosed)
        try await passOnBell(epoch(of: worker))
        return false
    }

    /// Who takes the bell's token and does not claim passes it on.
    private func passOnBell(_ epoch: Epoch) async throws {
        guard running?.tookBell == true else { return }
        _ = try await call("sweep") {
            _ = try await self.queue.sweep(limit: 1, epoch: epoch)
            self.bellTaken = false
            self.running?.tookBell = false
        }
    }

    /// Takes claims as far as they go: to their gateways, or aside if their device is offline.
    func pass(_ claims: [Claim], _ worker: Worker, _ epoch: Epoch) async throws {
        guard !claims.isEmpty else { return }
        let gateways = Set(claims.compactMap { $0.presence?.gateway }).sorted()
        let before = Set(gateways.filter { aliveUntil[$0, default: 0] > redisNow })
        let alive = try await call("alive") { try await self.queue.alive(gateways) }
        if !before.subtracting(alive).isEmpty { reach(.heartbeatLapsesAfterClaim) }
        try strike(claims, worker)
        var reachable: [(Claim, GatewayID)] = []
        var offline: [Claim] = []
        for claim in claims {
            if let gateway = claim.presence?.gateway, alive.contains(gateway) {
                reachable.append((claim, gateway))
            } else {
                offline.append(claim)
            }
        }
        try await putAside(offline, worker, epoch)
        try await deliver(reachable, worker, epoch)
    }

    /// Claims, and looks whether what was claimed may be.
    private func claim(_ worker: Worker, _ epoch: Epoch) async throws -> Claims {
        let claims = try await queue.claim(
            owner: worker.owner, limit: batch, leaseMilliseconds: 5_000, epoch: epoch)
        lastClaimed = claims.items.count
        if bellOrphaned, !claims.items.isEmpty { reach(.bellTakenByTheDead) }
        (bellTaken, bellOrphaned) = (false, false)
        running?.tookBell = false
        guard !claims.items.isEmpty || claims.more || !records.controls.isEmpty else {
            // Nobody was served, and nobody is in service who could be.
            shares.reset()
            return claims
        }
        let keys = queue.keys
        let replies = try await connection.send([
            RedisCommand("ZRANGE", .string(keys.key("ready")), 0, -1, "WITHSCORES"),
            RedisCommand("GET", .string(keys.key("virtual"))),
            RedisCommand("HGETALL", .string(keys.key("slots"))),
            RedisCommand("HGETALL", .string(keys.key("caps"))),
            RedisCommand("SMEMBERS", .string(keys.key("paused"))),
            RedisCommand("HGETALL", .string(keys.key("depth"))),
        ]).map { try $0.get() }
        let slots = Self.pairs(replies[2])
        let caps = Self.pairs(replies[3])
        let paused = Set(replies[4].array?.compactMap(\.text) ?? [])
        var served: [OrganizationID: Int] = [:]
        for claim in claims.items {
            served[claim.organization, default: 0] += 1
            let place = DeviceLane(device: claim.device, lane: claim.lane).text
            let unsettled = slots["d\(place)"].flatMap { Int($0) } ?? 0
            if unsettled > 4 { fail("a claim gave a device its run number \(unsettled)") }
            if unsettled == 4 { reach(.laneFull) }
        }
        judgePauses(claims.items, paused, Self.pairs(replies[5]))
        try await judgeBuckets(claims.items, caps, slots, paused, Self.pairs(replies[5]))
        var weights: [OrganizationID: Double] = [:]
        for organization in organizations {
            let id = organization.description
            weights[organization] = caps["\(id):weight"].flatMap { Double($0) } ?? 1
            for queue in OrganizationQueue.all(of: organization) {
                let held = slots["h\(queue.name)"].flatMap { Int($0) } ?? 0
                if held > VirtualLibrary.windowLeast { reach(.asideFull) }
                if held < aside[queue] ?? 0 { reach(.laneReopens) }
                aside[queue] = held
            }
            guard served[organization] != nil else { continue }
            let cap = caps["\(id):cap"].flatMap { Int($0) } ?? .max
            let taken = slots["o\(id)"].flatMap { Int($0) } ?? 0
            if taken > cap { fail("a claim brought \(taken) runs over the cap of \(cap)") }
            if taken == cap { reach(.capReached) }
        }
        let tags = Self.pairs(replies[0])
        var ready: [OrganizationID: Double] = [:]
        for organization in organizations {
            ready[organization] = tags[organization.description].flatMap { Double($0) }
        }
        let record = Shares.Claim(
            served: served, ready: ready, virtual: replies[1].double ?? 0, weights: weights,
            isExhausted: claims.items.count < batch && !ready.isEmpty)
        if let wrong = shares.record(record, of: organizations) { fail(wrong) }
        if !isFaulty {
            let waiting = Self.pairs(replies[5])
            let lower = queues.filter { queue in
                waiting[queue.name] ?? "0" != "0" && aside[queue] == 0 && !Self.isPaused(queue, paused)
                    // Beyond the bucket standard has no share but its age.
                    && (queue.priority == .bulk || caps["\(queue.organization):burst"] == nil)
            }
            if record.isExhausted { guarantees = Guarantees() }
            if let wrong = guarantees.record(claims.items, waiting: Set(lower)) { fail(wrong) }
        }
        note("claimed \(claims.items.map { "\($0.run.short)/\($0.generation)" })")
        return claims
    }

    static func pairs(_ reply: RedisValue) -> [String: String] {
        let flat = reply.array?.compactMap(\.text) ?? []
        return Dictionary(
            uniqueKeysWithValues: stride(from: 0, to: flat.count, by: 2).map { (flat[$0], flat[$0 + 1]) })
    }

    /// Runs of offline devices: waiting is committed, then presence is read again.
    private func putAside(_ claims: [Claim], _ worker: Worker, _ epoch: Epoch) async throws {
        guard !claims.isEmpty else { return }
        if now - worker.epochSince < 2_000_000 {
            reach(.absentMeansLater)
            _ = try await call("release") {
                try await self.queue.release(claims, delayMilliseconds: 500, epoch: epoch)
            }
            return
        }
        let waiting = try await commit("wait") { $0.wait(claims.map { ($0.run, $0.generation) }) }
        _ = try await call("acknowledge") {
            try await self.queue.acknowledge(
                dispatched: [], dropped: claims, deadlineMilliseconds: 0, epoch: epoch)
        }
        guard plan.lapse != .presenceIsReadOnce else { return }
        let parked = claims.filter { waiting.contains($0.run) }
        let present = try await arePresent(parked.map(\.device))
        let back = zip(parked, present).compactMap { $1 ? $0.device : nil }
        guard !back.isEmpty else { return }
        reach(.deviceComesWhileParked)
        let rows = try await commit("reconnect") { $0.reconnect(back) }
        try await offer(rows, by: worker)
    }

    func arePresent(_ devices: [DeviceID]) async throws -> [Bool] {
        let presences = try await call("presence") { try await self.queue.presence(of: devices) }
        let gateways = Set(presences.compactMap { $0?.gateway }).sorted()
        let alive = try await call("alive") { try await self.queue.alive(gateways) }
        return presences.map { presence in presence.map { alive.contains($0.gateway) } ?? false }
    }

    /// Mark, inbox, acknowledge.
    private func deliver(_ claims: [(Claim, GatewayID)], _ worker: Worker, _ epoch: Epoch) async throws {
        guard !claims.isEmpty else { return }
        let requests = claims.map { claim, gateway in
            (
                run: claim.run, generation: claim.generation, gateway: gateway,
                token: names.next() as AttemptToken
            )
        }
        let marked = try await commit("mark", .markReplyLost) { records in
            self.explain(requests.map { ($0.run, $0.generation) }, epoch, records)
            let kept = self.plan.lapse == .markAcceptsAnyDataSet ? records.epoch?.id : nil
            let marked = records.mark(
                requests, epoch: kept ?? epoch.id, heedsPauses: self.plan.lapse != .markIgnoresPauses)
            if !marked.isEmpty, records.epoch?.id != epoch.id {
                self.fail("a claim of a data set that is lost was marked")
            }
            return marked
        }
        note("marked \(marked.map { "\($0.run.short)#\($0.machine.attempt)" })")
        checkCalm()
        var items: [GatewayID: [(AttemptName, DeviceID)]] = [:]
        for row in marked {
            if let gateway = row.gateway, let name = row.name {
                items[gateway, default: []].append((name, row.device))
            }
        }
        let refused = try await send(items)
        let back = marked.filter { refused.contains($0.gateway!) }.compactMap(\.name)
        unsent.formUnion(back)
        let passed = Set(marked.filter { !refused.contains($0.gateway!) }.map(\.run))
        try await acknowledge(
            claims.map(\.0).filter { passed.contains($0.run) },
            dropped: claims.map(\.0).filter { !passed.contains($0.run) }, epoch)
        guard !refused.isEmpty else { return }
        reach(.inboxFull)
        try await returned(commit("undeliver") { $0.undeliver(back) }, by: worker)
    }

    /// Writes a letter a gateway; returns the gateways whose inbox is full.
    func send(_ items: [GatewayID: [(AttemptName, DeviceID)]]) async throws -> Set<GatewayID> {
        guard !items.isEmpty else { return [] }
        let post = items.keys.sorted().map { gateway in
            letters.append(.dispatch(items[gateway]!))
            return Streams.Letter(gateway: gateway, payload: Array("\(letters.count - 1)".utf8))
        }
        posted.formUnion(items.keys)
        let delivered = try await call("deliver", .inboxReplyLost) {
            try await self.queue.deliver(post, max: 3)
        }
        return Set(zip(post, delivered).filter { !$0.1 }.map(\.0.gateway))
    }

    private func acknowledge(_ dispatched: [Claim], dropped: [Claim], _ epoch: Epoch) async throws {
        let result = try await call("acknowledge", .acknowledgeReplyLost) {
            let overtaken = dispatched.map(\.settled).filter { self.settled.contains($0) }
            let before = try await self.areMembers(overtaken)
            let result = try await self.queue.acknowledge(
                dispatched: dispatched, dropped: dropped, deadlineMilliseconds: 1, epoch: epoch)
            if !overtaken.isEmpty {
                self.reach(.resultOvertakesAcknowledge)
                let after = try await self.areMembers(overtaken)
                if zip(before, after).contains(where: { !$0 && $1 }) {
                    self.fail("a run started that has settled")
                }
            }
            return result
        }
        if result.lost > 0 { reach(.leaseLostBeforeAcknowledge) }
    }

    /// Whether these count as running.
    private func areMembers(_ runs: [Settled]) async throws -> [Bool] {
        guard !runs.isEmpty else { return [] }
        let members = runs.map { run in
            "\(run.organization) \(run.run) \(run.generation) "
                + DeviceLane(device: run.device, lane: run.lane).text
        }
        let scores = RedisCommand(
            "ZMSCORE", arguments: [.string(queue.keys.key("running"))] + members.map { .string($0) })
        return try await connection.send(scores).array?.map { $0 != .null } ?? []
    }

    /// Why some of these will not be marked.
    private func explain(_ requests: [(run: RunID, generation: Int)], _ epoch: Epoch, _ records: Records) {
        guard records.epoch?.id == epoch.id else { return reach(.lostBeforeMark) }
        for request in requests {
            guard let row = records.open[request.run] else {
                reach(.endedWhileClaimed)
                continue
            }
            if records.isPaused(row.queue) { reach(.pausedWhileClaimed) }
            if records.isHeld(row) { reach(.heldWhileClaimed) }
            if row.expiresAt <= now { reach(.expiredWhileClaimed) }
            if row.machine.generation > request.generation { reach(.staleEntryRefused) }
            if row.machine.generation == request.generation, Records.isOnDevice(row) {
                reach(.secondClaimRefused)
            }
        }
    }

    /// In a world without faults the ledger itself keeps the cap and the lanes. What was marked and found a
    /// full inbox reaches nobody: its place is free before its mark is taken back.
    private func checkCalm() {
        guard !isFaulty else { return }
        checkLanes()
        var lanes: [DeviceLane: Int] = [:]
        var running: [OrganizationID: Int] = [:]
        for row in records.open.values
        where Records.isOnDevice(row) && row.name.map(unsent.contains) != true {
            lanes[DeviceLane(device: row.device, lane: row.lane), default: 0] += 1
            running[row.organization, default: 0] += 1
        }
        if let most = lanes.values.max(), most > 4 { fail("a device has \(most) runs") }
        for (organization, count) in running {
            let cap = highestCaps[organization] ?? .max
            if count > cap { fail("an organization has \(count) runs over its cap of \(cap)") }
        }
    }
}

extension Claim {
    /// The end of this run.
    var settled: Settled {
        Settled(
            organization: organization, run: run, generation: generation, device: device, lane: lane)
    }
}

extension ID {
    /// Enough to tell the ids of a world apart.
    var short: String { String(value.low & 0xFFFF) }
}
