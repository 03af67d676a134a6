import Domain
import Redis

@testable import Streams

/// What a gateway does (`Gateway`).
extension World {
    static let heartbeat = 5_000_000

    // MARK: The heartbeat

    private func beat(_ id: GatewayID) async throws {
        try await call("beat") {
            // The simulation takes it out itself when its time is over by the virtual clock.
            try await self.queue.beat(gateway: id, milliseconds: 3_600_000)
            self.aliveUntil[id] = self.redisNow + Self.heartbeat
        }
    }

    func beat(_ station: Station) async throws {
        let sent = now
        if !records.openGateways.contains(station.id), station.lastBeat == 0 {
            try await commit("beginGateway") { $0.beginGateway(station.id) }
        }
        let hadLapsed = station.lastBeat > 0 && sent - station.lastBeat > Self.heartbeat
        try await beat(station.id)
        station.lastBeat = sent
        if hadLapsed { station.isStale = true }
        let current = try await call("epoch") { try await self.queue.epoch() }
        if let current, current != station.seenEpoch {
            if station.seenEpoch != nil || !station.sessions.isEmpty { station.isStale = true }
            (station.seenEpoch, station.epoch) = (current, nil)
        }
        if station.isStale, current != nil {
            try await reincarnate(station)
            station.isStale = false
        }
    }

    private func reincarnate(_ station: Station) async throws {
        let old = station.id
        let new = newGateway()
        let sent = now
        try await commit("beginGateway") { $0.beginGateway(new) }
        try await beat(new)
        (station.id, station.lastBeat) = (new, sent)
        let links = station.sessions.values.sorted { $0.device.id < $1.device.id }
        let named = links.map { (device: $0.device.id, session: $0.number) }
        if !named.isEmpty {
            let kept = try await withEpoch(of: station) { epoch in
                try await call("republish") {
                    try await self.queue.republish(named, gateway: new, epoch: epoch)
                }
            }
            for (index, link) in links.enumerated() {
                if !kept[index], link.number == named[index].session {
                    reach(.republishRefused)
                    link.close()
                }
                if link.hasEnded { try await withdraw(link, from: new, station) }
            }
        }
        try await call("beat") {
            self.aliveUntil[old] = nil
            _ = try await self.connection.send(
                RedisCommand("DEL", .string(self.queue.keys.alive(old))))
        }
        reach(.newIncarnation)
        let back = try await commit("reconnect") { $0.reconnect(links.map(\.device.id)) }
        try await offer([], and: back.map(\.queue), by: station)
    }

    // MARK: The inbox

    func readInbox(_ station: Station) async throws {
        let id = station.id
        let key = queue.keys.inbox(id)
        posted.remove(id)
        let entries = try await call("inbox") {
            try await self.connection.send(RedisCommand("XRANGE", .string(key), "-", "+", "COUNT", 64)).array
        }
        var items: [(AttemptName, DeviceID)] = []
        var ids: [String] = []
        for entry in entries ?? [] {
            guard let id = entry.array?.first?.text,
                case .string(let payload)? = entry.array?.last?.array?.last
            else { continue }
            ids.append(id)
            switch letter(payload) {
            case .dispatch(let dispatched)?: items += dispatched
            case .cancel(let names)?:
                for (name, device) in names { station.sessions[device]?.send(.cancel(name)) }
            case nil: fail("a letter that nobody wrote")
            }
        }
        guard !ids.isEmpty else { return }
        // Until they are discarded they are read again.
        posted.insert(id)
        if !items.isEmpty { try await hand(items, station) }
        try await call("discard") { [ids] in try await self.queue.discard(gateway: id, ids) }
    }

    /// Sends what is for a session here; what is not goes back to the queue.
    private func hand(_ items: [(AttemptName, DeviceID)], _ station: Station) async throws {
        let presences = try await call("presence") { try await self.queue.presence(of: items.map(\.1)) }
        var here: [AttemptName] = []
        var gone: [(AttemptName, DeviceID)] = []
        for (item, presence) in zip(items, presences) {
            let link = station.sessions[item.1]
            if let link, link.number >= presence?.session ?? 0 {
                here.append(item.0)
            } else {
                if link != nil { reach(.halfOpenRefused) }
                gone.append(item)
            }
        }
        if !gone.isEmpty {
            for device in Set(gone.map(\.1)).sorted() where station.sessions[device] == nil {
                try await withdrawPresence(of: device, station)
            }
            let names = gone.map(\.0)
            try await returned(commit("undeliver") { $0.undeliver(names) }, by: station)
        }
        guard !here.isEmpty else { return }
        let taken = try await commit("take") { [here] in $0.take(here) }
        send(taken, station)
    }

    private func withdrawPresence(of device: DeviceID, _ station: Station) async throws {
        guard
            let presence = try await call(
                "presence", nil, { try await self.queue.presence(of: [device])[0] }),
            presence.gateway == station.id, station.sessions[device] == nil
        else { return }
        try await withEpoch(of: station) { epoch in
            _ = try await call("absent") {
                try await self.queue.absent(
                    device: device, gateway: presence.gateway, session: presence.session, epoch: epoch)
            }
        }
    }

    private func send(_ rows: [Records.Row], _ station: Station, to link: Link? = nil) {
        for row in rows {
            guard let name = row.name, let link = link ?? station.sessions[row.device] else { continue }
            if row.cancelledAt != nil { link.send(.cancel(name)) }
            link.send(.dispatch(name))
        }
    }

    // MARK: Hellos

    func welcome(_ station: Station, _ link: Link) async throws {
        do {
            try await answer(station, link)
        } catch {
            if !(error is Crash), !link.isServing { link.close() }
            throw error
        }
    }

    private func answer(_ station: Station, _ link: Link) async throws {
        let device = link.device
        var id: GatewayID
        repeat {
            id = station.id
            let named = id
            let number = try await withEpoch(of: station) { epoch in
                try await call("present") {
                    try await self.queue.present(device: device.id, gateway: named, epoch: epoch)
                }
            }
            link.number = number
            if let before = station.sessions[device.id], before !== link {
                reach(.sessionReplacedHere)
                guard before.number <= link.number else { return link.close() }
                before.close()
            }
            station.sessions[device.id] = link
        } while id != station.id
        if link.hasEnded { return try await leave(station, link) }
        try await reconcile(station, link, known: positions[device.id] ?? 0)
    }

    /// A hello that is repeated: presence is said again, in case it was lost, and all is compared as at
    /// first.
    func welcomeAgain(_ station: Station, _ link: Link) async throws {
        let device = link.device
        let isKept = try await withEpoch(of: station) { epoch in
            try await call("republish") {
                let before = try await self.queue.presence(of: [device.id])[0]
                let isKept = try await self.queue.republish(
                    [(device: device.id, session: link.number)], gateway: station.id, epoch: epoch)[0]
                if isKept, before == nil { self.reach(.helloBringsPresenceBack) }
                if isKept, let before, before.session > link.number {
                    self.fail("an old session took the presence of a newer one")
                }
                return isKept
            }
        }
        guard isKept else {
            reach(.republishRefused)
            return link.close()
        }
        if link.hasEnded { return try await withdraw(link, from: station.id, station) }
        // Nobody restores a journal under the session that speaks for it.
        try await reconcile(station, link, known: 0)
    }

    /// Compares what the device holds with what the server believes, sends what it lacks, wakes what waits.
    private func reconcile(_ station: Station, _ link: Link, known: Int) async throws {
        let device = link.device
        let open = try await commit("openAttempts") { $0.openAttempts(of: device.id) }
        guard station.sessions[device.id] === link else { return }
        let resend = try await judge(link, open, known, station)
        positions[device.id] = max(positions[device.id] ?? 0, link.hello.position)
        guard !link.isClosed else { return }
        link.isServing = true
        let taken = try await commit("take") { $0.take(resend) }
        send(taken, station, to: link)
        let rows = try await commit("reconnect") { $0.reconnect([device.id]) }
        if !rows.isEmpty { reach(.wokenByHello) }
        try await offer(rows, and: rows.map(\.queue), by: station)
    }

    /// What follows from a hello (`HelloPlan`); returns what the device lacks.
    private func judge(
        _ link: Link, _ open: [Records.Row], _ known: Int, _ station: Station
    ) async throws -> [AttemptName] {
        let hello = link.hello
        let isRestored = hello.position < known
        let openNames = Set(open.compactMap(\.name))
        var resend: [AttemptName] = []
        var lost: [Records.Row] = []
        for row in open {
            guard let name = row.name else { continue }
            if hello.held.contains(name) {
                if row.cancelledAt != nil { link.send(.cancel(name)) }
            } else if !hello.ended.contains(name) {
                if isRestored, row.machine.wasSent { lost.append(row) } else { resend.append(name) }
            }
        }
        if isRestored {
            reach(.journalRegressed)
            for row in lost {
                guard let name = row.name else { continue }
                let settlement = try await commit("settle") {
                    $0.settle(name, .unknown, device: link.device.id)
                }
                if case .settled = settlement { try await settleInQueue([Settled(row)], by: station) }
            }
            positions[link.device.id] = hello.position
        }
        for name in hello.held.sorted(by: { $0.run < $1.run }) where !openNames.contains(name) {
            let row = records.history[name.run]
            switch row?.name == name && row?.machine.isAmendable == true ? row?.machine.state : nil {
            case nil:
                reach(.heldIsDropped)
                link.send(.drop(name))
            case .cancelled?: link.send(.cancel(name))
            default: break
            }
        }
        if open.contains(where: { row in resend.contains { $0 == row.name } && row.machine.wasSent }) {
            reach(.sameAttemptResent)
        }
        return resend
    }

    func leave(_ station: Station, _ link: Link) async throws {
        guard station.sessions[link.device.id] === link else { return }
        station.sessions[link.device.id] = nil
        link.close()
        try await withdraw(link, from: station.id, station)
    }

    private func withdraw(_ link: Link, from id: GatewayID, _ station: Station) async throws {
        let device = link.device.id
        try await withEpoch(of: station) { epoch in
            try await call("absent") {
                let before = try await self.queue.presence(of: [device])[0]
                let isGone = try await self.queue.absent(
                    device: device, gateway: id, session: link.number, epoch: epoch)
                let after = try await self.queue.presence(of: [device])[0]
                guard let before, before.session > link.number else { return }
                self.reach(.successorKeepsPresence)
                if isGone || after != before { self.fail("an old session took the presence of a newer one") }
            }
        }
    }

    // MARK: Words of devices

    func hear(_ station: Station, _ link: Link) {
        let words = link.toGateway
        link.toGateway = []
        for word in words {
            switch word {
            case .accepted(let position): note(position, link)
            case .started(let name, let position):
                note(position, link)
                station.starts.append(name)
            case .finished(let name, let outcome): station.results.append((link, name, outcome))
            }
        }
    }

    private func note(_ position: Int, _ link: Link) {
        positions[link.device.id] = max(positions[link.device.id] ?? 0, position)
    }

    func recordStarts(_ station: Station) async throws {
        let starts = station.starts
        station.starts = []
        try await commit("start") { $0.start(starts) }
    }

    /// Commits results, and acknowledges each only then.
    func settleResults(_ station: Station) async throws {
        let results = station.results
        station.results = []
        for (link, name, outcome) in results {
            let before = records.open[name.run]
            let settlement: Records.Settlement
            let wait = before?.policy.backoff.wait(attempt: name.attempt - 1, using: &random) ?? .zero
            do {
                settlement = try await commit("settle", .commitReplyLost) {
                    $0.settle(
                        name, outcome, device: link.device.id, wait: Int(wait / .microseconds(1)))
                }
            } catch is Lost {
                station.results.append((link, name, outcome))
                continue
            }
            switch settlement {
            case .settled:
                if before?.cancelledAt != nil {
                    reach(outcome == .cancelled ? .cancelBeatsCompletion : .completionBeatsCancel)
                }
                if name.attempt > 1 { reach(.retryIsAnotherAttempt) }
            case .amended: reach(.outcomeAmended)
            case .duplicate: reach(.duplicateResult)
            case .late: reach(.lateResult)
            case .foreign: fail("a result that belongs to nobody")
            }
            link.send(.acknowledged(name))
            if case .settled = settlement, let before {
                try await settleInQueue([Settled(before)], by: station)
            }
        }
    }
}

extension Link {
    /// To the device, in order; a connection that is over swallows it.
    func send(_ message: Message) {
        if !isClosed { toDevice.append(message) }
    }
}
