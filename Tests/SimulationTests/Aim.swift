import Domain

/// What a world is bent towards: of the orders of steps that chance alone rarely brings, each has worlds in
/// which it is likely.
enum Aim: CaseIterable {
    /// Dispatchers stop between the mark and the letter, and die there.
    case deliver
    /// Dispatchers stop between the letter and the acknowledgement: results, lapses, losses and deaths come
    /// first.
    case acknowledge
    /// Dispatchers stop between the claim and the mark: losses, pauses and lapses come first.
    case mark
    /// Devices say nothing of what they have, and it is cancelled.
    case silence
    /// Disks are put back to a copy.
    case restore
    /// Devices change the gateway without a word, while a letter for them lies at the old one.
    case halfOpen
    /// Commits are late, and who made them dies.
    case lateCommit
    /// Devices come again before they were seen to go.
    case sessions
    /// Data sets are lost, and both workers rebuild.
    case rebuild
    /// Replies about results are lost.
    case loss
    /// What is on devices is cancelled.
    case cancel
    /// Nothing goes wrong, but devices come while their runs are put aside.
    case parking
    /// Nothing goes wrong, but devices come while work for them is committed.
    case committing
    /// Nothing goes wrong, and there are finer limits, rates and small buckets.
    case limits
    /// Runs kill whoever handles them, and nothing else does.
    case poison

    /// Whether nothing goes wrong.
    var isCalm: Bool { [.parking, .committing, .limits].contains(self) }

    /// Every other world has an aim, which follows from its seed.
    static func of(_ seed: UInt64) -> Aim? {
        seed % 2 == 0 ? allCases[Int(seed / 2 % UInt64(allCases.count))] : nil
    }

    /// Whether who stops here stays for long.
    func holds(_ work: Work, at point: String) -> Bool {
        switch (self, work, point) {
        case (.deliver, .dispatch, "deliver"), (.acknowledge, .dispatch, "acknowledge"),
            (.mark, .dispatch, "mark"), (.lateCommit, .submit, "submit"),
            (.lateCommit, .submit, "epoch"), (.lateCommit, .submit, "enqueue"),
            (.sessions, .welcome, "reconnect"), (.rebuild, .rebuild, "beginEpoch"),
            (.rebuild, .rebuild, "keepEpoch"), (.parking, .dispatch, "wait"),
            (.committing, .submit, "submit"):
            true
        default: false
        }
    }

    /// How often an answer is lost, in thousandths, besides what every world loses.
    func loses(_ name: String) -> Int { self == .loss && name == "settle" ? 250 : 0 }

    /// How much likelier than elsewhere a work is begun.
    func favour(_ work: Work) -> Int {
        switch (self, work) {
        case (.cancel, .cancel), (.mark, .entitle): 6
        case (.limits, .entitle), (.limits, .limits): 2
        case (.acknowledge, .dispatch), (.mark, .dispatch), (.deliver, .dispatch): 5
        case (.parking, .dispatch), (.loss, .membership): 3
        case (.loss, .inbox), (.restore, .dispatch), (.cancel, .inbox), (.lateCommit, .submit): 2
        default: 1
        }
    }
}

/// The aims at work.
extension World {
    /// Does what the aim of the world waits for; false if nothing is to be done.
    func pursue(_ aim: Aim) async throws -> Bool {
        guard pursued < Self.pursuits else { return false }
        let isDone =
            switch aim {
            case .deliver: await die()
            case .acknowledge: try await overtakeAcknowledgement()
            case .mark: try await overtakeMark()
            case .silence: await fallSilent()
            case .restore: await restoreOne()
            case .halfOpen: await moveHalfOpen()
            case .lateCommit: await commitLate()
            case .sessions: try await comeAgain()
            case .rebuild: try await rebuildTwice()
            case .parking, .committing: await comeWhileParked()
            case .limits: false
            case .poison: await reclaimPoison()
            case .loss: await hearResults(cancelled: false)
            case .cancel: await hearResults(cancelled: true)
            }
        if isDone { pursued += 1 }
        return isDone
    }

    /// How often a world does what it aims at.
    private static let pursuits = 6

    /// Who stands where the aim holds it.
    private var held: Activity? {
        activities.first { $0.process.pausedUntil <= now && isHeld($0) }
    }

    func isHeld(_ activity: Activity) -> Bool {
        activity.continuation != nil && aim?.holds(activity.work, at: activity.point) == true
    }

    /// The index of the worker that is another one than this.
    private func other(than process: Process) -> Int { process === workers[0] ? 1 : 0 }

    /// Carries works out from begin to end, and nothing goes wrong with them.
    private func wholly(_ works: [Work]) async {
        isQuiet = true
        for work in works { await begin(work) }
        isQuiet = false
    }

    private func die() async -> Bool {
        guard let held else { return false }
        await kill(held.process)
        return true
    }

    private func overtakeAcknowledgement() async throws -> Bool {
        guard let held else { return false }
        let worker = other(than: held.process)
        switch random.below(8) {
        case 0: await kill(held.process)
        case 1: try await flush()
        case 2:
            now += 6_000_000
            await wholly([.sweep(worker), .dispatch(worker)])
        default: await workAllOff()
        }
        if !held.isOver, held.continuation != nil { await advance(held) }
        return true
    }

    /// Devices read, carry out and report all that is on its way to them.
    private func workAllOff() async {
        for index in stations.indices where posted.contains(stations[index].id) {
            await wholly([.inbox(index)])
        }
        for device in devices { await workOff(device) }
        for index in stations.indices { await wholly([.results(index)]) }
    }

    private func overtakeMark() async throws -> Bool {
        guard let held else { return false }
        let worker = other(than: held.process)
        if random.chance(500) {
            try await flush()
            now += 5_000_000
            await wholly([.rebuild(worker)])
        } else {
            now += 6_000_000
            await wholly([.sweep(worker), .dispatch(worker)])
        }
        if !held.isOver, held.continuation != nil { await advance(held) }
        return true
    }

    private func fallSilent() async -> Bool {
        let onDevices = records.rows.filter { Records.isOnDevice($0) && $0.machine.wasSent }
        guard !onDevices.isEmpty else { return false }
        if onDevices.contains(where: { $0.cancelledAt != nil }) || random.chance(300) {
            now += 130_000_000
            await wholly([.deadlines(0), .deadlines(0)])
        } else {
            await wholly([.cancel(0)])
        }
        return true
    }

    /// A disk is put back to where its attempt ran, after the end of that was heard.
    private func restoreOne() async -> Bool {
        for (index, station) in stations.enumerated()
        where station.pausedUntil <= now && posted.contains(station.id) {
            await wholly([.inbox(index)])
        }
        let connected = devices.filter { $0.link?.isServing == true }
        for device in connected {
            for _ in 0..<20 where device.held(.running).isEmpty {
                receive(device)
                execute(device)
            }
        }
        guard let device = connected.first(where: { !$0.held(.running).isEmpty }),
            let index = stations.firstIndex(where: { $0 === device.link?.gateway })
        else { return false }
        device.copy = device.disk
        await workOff(device)
        await wholly([.results(index)])
        await workOff(device)
        await greetAgain(device)
        disconnect(device)
        restore(device)
        await greet(device, random.below(stations.count))
        return true
    }

    /// Results are heard, and those of cancelled runs are among them.
    private func hearResults(cancelled: Bool) async -> Bool {
        for device in devices { await workOff(device) }
        guard let index = stations.firstIndex(where: { !$0.results.isEmpty && $0.pausedUntil <= now })
        else { return false }
        if cancelled { await wholly([.cancel(0)]) }
        await begin(.results(index))
        return true
    }

    private func moveHalfOpen() async -> Bool {
        for (index, station) in stations.enumerated() where posted.contains(station.id) {
            let row = records.rows.first {
                $0.machine.state == .dispatched && !$0.machine.wasSent && $0.gateway == station.id
                    && station.sessions[$0.device].map { link in
                        link.isServing && byID[link.device.id]?.link === link
                    } == true
            }
            guard let row, let device = byID[row.device] else { continue }
            goWithoutWord(device)
            await greet(device, 1 - index)
            await wholly([.inbox(index)])
            return true
        }
        return false
    }

    private func commitLate() async -> Bool {
        guard let held, case .submit(let caller) = held.work, held.point == "submit" else { return false }
        await wholly([.submit(1 - caller)])
        now += 2_100_000
        await wholly([.stragglers(0), .refill(0)])
        for _ in 0..<4 where !held.isOver && held.point == "submit" { await advance(held) }
        if !held.isOver, random.chance(500) { await advance(held, killed: true) }
        now += 2_100_000
        await wholly([.stragglers(0), .refill(0)])
        return true
    }

    private func comeAgain() async throws -> Bool {
        let waiting = Set(records.waitingDevices())
        if let device = devices.first(where: { $0.link == nil && waiting.contains($0.id) }),
            random.chance(500)
        {
            let index = random.below(stations.count)
            connect(device, stations[index])
            for _ in stations[index].hellos { await begin(.welcome(index)) }
            await wholly([.wake(0)])
            return true
        }
        guard let device = random.pick(devices.filter { $0.link?.isServing == true }),
            let station = device.link?.gateway, let index = stations.firstIndex(where: { $0 === station })
        else { return false }
        switch random.below(3) {
        case 0:
            goWithoutWord(device)
            await greet(device, index)
        case 1:
            goWithoutWord(device)
            await greet(device, 1 - index)
            while !station.halfOpen.isEmpty { noticeHalfOpen(station) }
            for _ in station.ended { await wholly([.leave(index)]) }
        default:
            try await flush()
            now += 5_000_000
            await wholly([.rebuild(0)])
            await greetAgain(device)
        }
        return true
    }

    private func rebuildTwice() async throws -> Bool {
        if let held, random.chance(500) {
            await kill(held.process)
        } else {
            if held == nil { try await flush() }
            now += 5_000_000
            for index in workers.indices { await begin(.rebuild(index)) }
        }
        return true
    }

    /// The leases of who died are taken back, and another takes the suspects.
    private func reclaimPoison() async -> Bool {
        guard !records.open.keys.filter(poison.contains).isEmpty, random.chance(400) else { return false }
        now += 5_100_000
        let worker = random.below(workers.count)
        await wholly([.sweep(worker), .stragglers(worker), .refill(worker), .dispatch(worker)])
        return true
    }

    private func comeWhileParked() async -> Bool {
        guard let held, let device = random.pick(devices.filter({ $0.link == nil })) else { return false }
        await greet(device, random.below(stations.count))
        if !held.isOver, random.chance(500) { await advance(held) }
        return true
    }

    /// A device connects and is welcomed.
    private func greet(_ device: Device, _ index: Int) async {
        connect(device, stations[index])
        while !stations[index].hellos.isEmpty { await wholly([.welcome(index)]) }
    }

    private func greetAgain(_ device: Device) async {
        guard let index = stations.firstIndex(where: { $0 === device.link?.gateway }) else { return }
        repeatHello(device)
        while !stations[index].repeated.isEmpty { await wholly([.again(index)]) }
    }
}
