import Domain
import Redis

@testable import Streams

/// The end of a world: no more faults, everybody comes back, and everything has to come right.
extension World {
    /// Compares every key of the partition with every other.
    func audit() async throws {
        let reply = try await connection.call(
            queue.keys.function("audit"), keys: [queue.keys.key("epoch")],
            arguments: [bellTaken ? 1 : 0] + organizations.map { .string($0.description) })
        for text in reply.array ?? [] { fail("audit: \(text.text ?? "?")") }
        for text in records.violations { fail(text) }
    }

    func end() async throws {
        note("no more faults")
        isQuiet = true
        for activity in activities { await advance(activity) }
        checkParked()
        for process in workers + stations + callers as [Process] { process.pausedUntil = 0 }
        skew = max(skew, 0)
        for device in devices { disconnect(device) }
        for station in stations {
            while !station.halfOpen.isEmpty { noticeHalfOpen(station) }
        }
        for round in 0..<Self.roundsMax {
            now += 4_000_000
            await playRound(round)
            if !isEntitled { await begin(.entitleAll(0)) }
            if !violations.isEmpty || isDone { break }
        }
        guard violations.isEmpty else { return }
        for _ in 0..<2 {
            now += 3_000_000
            for index in stations.indices { await begin(.beat(index)) }
        }
        for work in [Work.sweep(0), .membership(0), .refill(0)] { await begin(work) }
        // Entries of runs that have ended are dropped by whoever claims them.
        for _ in 0..<100 {
            await begin(.dispatch(0))
            if lastClaimed == 0 { break }
        }
        await begin(.sweep(0))
        try await audit()
        try await judge()
    }

    /// In a world without faults, no run waits for a device that is there once nobody acts.
    func checkParked() {
        guard !isFaulty, activities.isEmpty else { return }
        for row in records.rows where row.machine.state == .waiting {
            if byID[row.device]?.link?.isServing == true {
                fail("the run \(row.run.short) waits for a device that is there")
            }
        }
    }

    static let roundsMax = 120

    private var isDone: Bool {
        isEntitled && records.open.isEmpty && devices.allSatisfy { $0.disk.outbox.isEmpty }
    }

    private func playRound(_ round: Int) async {
        for index in stations.indices {
            await begin(.beat(index))
            while !stations[index].ended.isEmpty { await begin(.leave(index)) }
        }
        await begin(.rebuild(0))
        for work in [Work.sweep(0), .deadlines(0), .bury(0), .due(0)] { await begin(work) }
        if hasLimits { await begin(.limits(0)) }
        await begin(.stragglers(0))
        if round % 5 == 4 { for work in [Work.wake(0), .cancels(0)] { await begin(work) } }
        if round % 10 == 9 {
            await begin(.membership(0))
            devices.forEach(repeatHello)
        }
        for device in devices where device.link == nil { connect(device, stations[round % 2]) }
        for index in stations.indices {
            while !stations[index].hellos.isEmpty { await begin(.welcome(index)) }
            while !stations[index].repeated.isEmpty { await begin(.again(index)) }
        }
        await begin(.refill(0))
        for turn in 0..<4 {
            // What a limit held back has its place since.
            if hasLimits, turn > 0 { await begin(.refill(0)) }
            await begin(.dispatch(0))
            for (index, station) in stations.enumerated() where posted.contains(station.id) {
                await begin(.inbox(index))
            }
            for device in devices { await workOff(device) }
            for (index, station) in stations.enumerated() where !station.results.isEmpty {
                await begin(.results(index))
            }
            if records.open.isEmpty || lastClaimed == 0 { break }
        }
    }

    func workOff(_ device: Device) async {
        for _ in 0..<40 {
            guard let link = device.link, link.isServing else { return }
            let hadMessages = !link.toDevice.isEmpty
            if hadMessages { receive(device) }
            execute(device)
            finish(device)
            hear(link.gateway, link)
            if !hadMessages, device.held(.accepted).isEmpty, device.held(.running).isEmpty { return }
        }
    }

    /// What holds when all is over.
    private func judge() async throws {
        for row in records.rows {
            fail("the run \(row.run.short) never ended: \(row.machine.state)")
        }
        for run in committed where records.row(run) == nil { fail("the run \(run.short) is lost") }
        for device in devices {
            for (name, _) in device.disk.outbox { fail("the result of \(name.run.short) was never heard") }
        }
        for run in poison.sorted() where executed.keys.contains(where: { $0.run == run }) {
            fail("the poison \(run.short) reached a device")
        }
        for row in records.history.values.sorted(by: { $0.run < $1.run }) where !row.isPoisoned {
            guard let name = row.name, let device = byID[row.device], !device.forgotten.contains(name),
                let outcome = executed[name] ?? nil
            else { continue }
            if row.machine.state != outcome.state {
                fail("\(name.run.short) ended as \(outcome) and is recorded as \(row.machine.state)")
            }
        }
        // The field that makes a hash a table is all that may be left in these.
        let looks =
            ["live", "depth", "slots"].map { ($0, "HLEN", 1) }
            + ["returned", "leases", "running", "due", "held", "lanes", "taken", "wanted"].map {
                ($0, "EXISTS", 0)
            }
        let replies = try await connection.send(
            looks.map { name, command, _ in RedisCommand(command, .string(queue.keys.key(name))) })
        for ((name, _, most), reply) in zip(looks, replies) where try reply.get().int ?? 0 > most {
            fail("something is left in the key \(name)")
        }
    }
}
