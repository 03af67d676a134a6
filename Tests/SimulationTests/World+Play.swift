import Domain
import Redis

@testable import Streams

/// A thing that a process does, from its begin to its end.
enum Work: Hashable, Sendable {
    case submit(Int), cancel(Int), entitle(Int), entitleAll(Int)
    case dispatch(Int), refill(Int), sweep(Int), deadlines(Int), stragglers(Int), cancels(Int)
    case due(Int), limits(Int), bury(Int), wake(Int), membership(Int), rebuild(Int)
    case beat(Int), inbox(Int), welcome(Int), again(Int), leave(Int), results(Int), starts(Int)
}

/// The order of things.
extension World {
    func perform(_ work: Work) async throws {
        switch work {
        case .submit(let index): try await submit(callers[index])
        case .cancel(let index): try await cancelRun(callers[index])
        case .entitle(let index): try await entitle(callers[index])
        case .entitleAll(let index): try await entitleAll(callers[index])
        case .dispatch(let index): try await dispatch(workers[index])
        case .refill(let index): try await refill(workers[index])
        case .sweep(let index): try await sweep(workers[index])
        case .due(let index): try await queueDue(workers[index])
        case .limits(let index): try await checkLimits(workers[index])
        case .deadlines(let index): try await judgeDeadlines(workers[index])
        case .stragglers(let index): try await markStragglers(workers[index])
        case .cancels(let index): try await repeatCancels(workers[index])
        case .bury(let index): try await buryGateways(workers[index])
        case .wake(let index): try await wakePresent(workers[index])
        case .membership(let index): try await compareMembership(workers[index])
        case .rebuild(let index): try await rebuild(workers[index])
        case .beat(let index): try await beat(stations[index])
        case .inbox(let index): try await readInbox(stations[index])
        case .welcome(let index):
            guard !stations[index].hellos.isEmpty else { return }
            let link = stations[index].hellos.removeFirst()
            // Who has gone already is not answered.
            if !link.hasEnded { try await welcome(stations[index], link) }
        case .again(let index):
            guard !stations[index].repeated.isEmpty else { return }
            try await welcomeAgain(stations[index], stations[index].repeated.removeFirst())
        case .leave(let index):
            guard !stations[index].ended.isEmpty else { return }
            try await leave(stations[index], stations[index].ended.removeFirst())
        case .results(let index): try await settleResults(stations[index])
        case .starts(let index): try await recordStarts(stations[index])
        }
    }

    private func process(of work: Work) -> Process {
        switch work {
        case .submit(let index), .cancel(let index), .entitle(let index), .entitleAll(let index):
            callers[index]
        case .dispatch(let index), .refill(let index), .sweep(let index), .deadlines(let index),
            .stragglers(let index), .cancels(let index), .bury(let index), .wake(let index),
            .due(let index), .limits(let index), .membership(let index), .rebuild(let index):
            workers[index]
        case .beat(let index), .inbox(let index), .welcome(let index), .again(let index),
            .leave(let index), .results(let index), .starts(let index):
            stations[index]
        }
    }

    func begin(_ work: Work) async { await begin(work, process(of: work)) }

    // MARK: Play

    /// Plays the seed from the first step to the end.
    func play() async throws {
        try await setClock()
        await begin(.rebuild(0))
        isQuiet = true
        for index in stations.indices { await begin(.beat(index)) }
        for device in devices where random.chance(700) { connect(device, random.pick(stations)!) }
        if aim == .parking {
            // Workers that know the data set for long believe that a device is absent.
            for index in workers.indices { await begin(.dispatch(index)) }
            now += 2_500_000
        }
        isQuiet = false
        while step < steps, violations.isEmpty {
            step += 1
            passTime()
            try await playStep()
            if plan.isTraced || (step + Int(plan.seed % 7)) % plan.auditEvery == 0 { try await audit() }
        }
        if violations.isEmpty { try await end() }
        for activity in activities { await advance(activity, killed: true) }
        try await clean()
        violations += records.violations
    }

    private func passTime() {
        guard isFaulty else { return now += random.below(15_000) }
        switch random.below(1_000) {
        case 0..<300: break
        case 300..<955: now += random.below(30_000)
        case 955..<990: now += 200_000 + random.below(2_500_000)
        case 990..<998: now += 5_000_000 + random.below(7_000_000)
        default: now += 60_000_000 + random.below(150_000_000)
        }
    }

    private func playStep() async throws {
        if let aim, random.chance(300), try await pursue(aim) { return }
        if hasFaults, random.chance(30) { return try await fault() }
        let parked = activities.filter { activity in
            activity.process.pausedUntil <= now && (!isHeld(activity) || random.chance(100))
        }
        if !parked.isEmpty, random.chance(isFaulty ? 600 : 850) {
            let activity = isFaulty ? random.pick(parked)! : parked[0]
            if hasFaults, random.chance(12) { return await kill(activity.process) }
            return await advance(activity)
        }
        if random.chance(550), actOfDevice() { return }
        if let work = nextWork() { await begin(work) }
    }

    private func nextWork() -> Work? {
        var choices: [(Int, Work)] = []
        func offer(_ weight: Int, _ work: Work, atOnce: Int = 1) {
            guard process(of: work).pausedUntil <= now,
                activities.count(where: { $0.work == work }) < atOnce
            else { return }
            choices.append((weight * (aim?.favour(work) ?? 1), work))
        }
        for index in callers.indices {
            if runsLeft > 0 { offer(10, .submit(index), atOnce: 2) }
            if !records.open.isEmpty { offer(2, .cancel(index)) }
            offer(2, .entitle(index))
        }
        for index in workers.indices {
            offer(12, .dispatch(index))
            offer(6, .refill(index))
            offer(4, .sweep(index))
            for work in [Work.deadlines(index), .stragglers(index), .membership(index), .due(index)] {
                offer(2, work)
            }
            if hasLimits { offer(2, .limits(index)) }
            for work in [Work.bury(index), .wake(index), .cancels(index)] { offer(1, work) }
            offer(3, .rebuild(index))
        }
        for (index, station) in stations.enumerated() {
            offer(now - station.lastBeat > 1_000_000 ? 16 : 2, .beat(index))
            offer(6, .inbox(index))
            if !station.hellos.isEmpty { offer(14, .welcome(index), atOnce: 3) }
            if !station.repeated.isEmpty { offer(6, .again(index), atOnce: 2) }
            if !station.ended.isEmpty { offer(8, .leave(index), atOnce: 2) }
            if !station.results.isEmpty { offer(20, .results(index)) }
            if !station.starts.isEmpty { offer(4, .starts(index)) }
        }
        var left = random.below(max(1, choices.reduce(0) { $0 + $1.0 }))
        for (weight, work) in choices {
            left -= weight
            if left < 0 { return work }
        }
        return nil
    }

    /// What needs no store; false if nothing is to be done.
    private func actOfDevice() -> Bool {
        let busy = random.chance(600) ? devices.filter(\.isBusy) : []
        guard let device = random.pick(busy) ?? random.pick(devices) else { return false }
        switch random.below(12) {
        case 0..<4:
            guard let link = device.link, !link.toDevice.isEmpty else { return false }
            receive(device)
        case 4..<6: execute(device)
        case 6..<8:
            guard aim != .silence || random.chance(200) else { return false }
            finish(device)
        case 8..<10:
            guard let link = device.link, link.isServing, link.gateway.pausedUntil <= now else {
                return false
            }
            hear(link.gateway, link)
        case 10:
            connect(device, random.pick(stations)!)
            if random.chance(200) { repeatHello(device) }
        default:
            if random.chance(300) { disconnect(device) }
            for station in stations where random.chance(300) {
                noticeHalfOpen(station)
            }
        }
        return true
    }

    // MARK: Faults

    /// In a world of poison nothing else kills anybody, so that no innocent run may be accused.
    private var hasFaults: Bool { isFaulty && aim != .poison }

    private func fault() async throws {
        let process = random.pick(workers + stations + callers as [Process])!
        switch random.below(26) {
        case 0..<5: await kill(process)
        case 5..<9:
            note("\(process.name) stops")
            process.pausedUntil = now + 500_000 + random.below(9_000_000)
        case 9..<11: try await flush()
        case 11..<15:
            devices.forEach { $0.copy = $0.disk }
            try await keep()
        case 15..<17: try await loseASecond()
        case 17: jump()
        case 18..<21:
            if let device = random.pick(devices) { goWithoutWord(device) }
        default:
            guard let device = random.pick(devices.filter { $0.copy != nil }) else { return }
            if let link = device.link, link.isServing { hear(link.gateway, link) }
            disconnect(device)
            restore(device)
        }
    }

    func kill(_ process: Process) async {
        note("\(process.name) is killed")
        for activity in activities where activity.process === process {
            await advance(activity, killed: true)
        }
        process.die()
        process.pausedUntil = 0
        if let station = process as? Station { (station.id, station.lastBeat) = (newGateway(), 0) }
    }

    private func jump() {
        let isForwards = random.chance(500)
        skew += isForwards ? 1_000_000 + random.below(9_000_000) : -1_000_000 - random.below(5_000_000)
        reach(isForwards ? .clockForwards : .clockBackwards)
    }

    private var gatewayKeys: [String] {
        (records.openGateways.union(stations.map(\.id))).sorted().flatMap {
            [queue.keys.alive($0), queue.keys.inbox($0)]
        }
    }

    func flush() async throws {
        note("the data set is lost")
        if activities.contains(where: {
            if case .dispatch = $0.work { $0.point == "acknowledge" } else { false }
        }) {
            reach(.lostBeforeAcknowledge)
        }
        try await delete(allKeys + gatewayKeys)
        aliveUntil = [:]
        forgetQueue()
    }

    private func delete(_ keys: [String]) async throws {
        _ = try await connection.send(RedisCommand("DEL", arguments: keys.map { .string($0) }))
    }

    private func forgetQueue() {
        shares.reset()
        (settled, versions, bellTaken) = ([], [:], true)
        (rates, buckets) = ([:], [:])
    }

    /// The server writes its file.
    private func keep() async throws {
        try await copy("keep")
        keptAlive = aliveUntil
    }

    /// The server starts again from its file: what was written since is missing.
    private func loseASecond() async throws {
        guard let kept = keptAlive else { return }
        note("what was written lately is lost")
        reach(.lostSecond)
        let new = Set(aliveUntil.keys).subtracting(kept.keys)
        try await copy("lose")
        if !new.isEmpty { try await delete(new.sorted().map { queue.keys.alive($0) }) }
        (aliveUntil, server) = (kept, server + 1)
        forgetQueue()
    }

    private func copy(_ function: String) async throws {
        let keys = [queue.keys.key("epoch")] + allKeys + gatewayKeys
        _ = try await connection.call(queue.keys.function(function), keys: keys, arguments: [])
    }

    private func clean() async throws {
        let clock = "clock:\(queue.keys.key(""))"
        let all = allKeys + everyGateway.flatMap { [queue.keys.alive($0), queue.keys.inbox($0)] }
        try await delete([clock] + all + all.map { "kept:\($0)" })
    }
}
