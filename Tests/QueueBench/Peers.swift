import Domain
import Engine
import Foundation
import Ledger
import Postgres
import Redis
import Streams
import Synchronization
import Trust

/// The queue in a harness that drives several queues alike, each by a producer and a worker: a job is what
/// such a harness calls a task, its number, time and duration stand in what is signed elsewhere.
extension Measure {
    /// Two tenants with devices, and nothing queued.
    func prepare() async throws { _ = try await bed.tenants(2, devices: 1_000) }

    /// Submits jobs, `single N IN_FLIGHT MS BASE`, `bulk N BATCH MS BASE` or `latency RATE SECONDS`, and says
    /// how long that took and how many were acknowledged, which is after their commit.
    func producer() async throws {
        let numbers = words.dropFirst().compactMap { Double($0) }
        guard let how = words.first, numbers.count == (how == "latency" ? 2 : 4) else {
            throw BenchError(
                "producer single N IN_FLIGHT MS BASE | bulk N BATCH MS BASE | latency RATE SECONDS")
        }
        let base = how == "latency" ? 0 : Int(numbers[3])
        let milliseconds = how == "latency" ? 0 : Int(numbers[2])
        // The second tenant is who comes later.
        let tenant = try await bed.knownTenants()[base >= 10_000_000 ? 1 : 0]
        _ = try await bed.awaitDataSet()
        let commits = Submitter.commits(ledger: bed.api, front: bed.front)
        let acknowledged = Acknowledged()
        @Sendable func submit(_ tasks: Range<Int>) async throws {
            let jobs = try tasks.map { task in
                try tenant.job([tenant.devices[task % tenant.devices.count]]).saying(
                    PeerTask(seq: base + task, t: Date().timeIntervalSince1970, ms: milliseconds))
            }
            let outcomes = try await commits(
                jobs, size: 2 * jobs.count, scope: .organization(tenant.organization))
            let taken = outcomes.count { $0 == .accepted(.active) }
            acknowledged.count.add(taken, ordering: .relaxed)
        }
        let took: Double
        switch how {
        case "single":
            took = try await calls(Int(numbers[0]), callers: Int(numbers[1])) { number in
                try await submit(number..<(number + 1))
            }
        case "bulk":
            let (count, batch) = (Int(numbers[0]), Int(numbers[1]))
            took = try await seconds {
                for start in stride(from: 0, to: count, by: batch) {
                    try await submit(start..<min(start + batch, count))
                }
            }
        case "latency":
            let first = ContinuousClock.now
            took = try await seconds {
                try await withThrowingTaskGroup(of: Void.self) { group in
                    for number in 0..<Int(numbers[0] * numbers[1]) {
                        let due = first + .seconds(1) * Double(number) / numbers[0]
                        try await Task.sleep(until: due, clock: .continuous)
                        group.addTask { try await submit(number..<(number + 1)) }
                    }
                    try await group.waitForAll()
                }
            }
        default: throw BenchError("a producer does not know \(how)")
        }
        say(["secs": took, "acked": Double(acknowledged.count.load(ordering: .relaxed))])
    }

    /// Works until it is ended: the worker's role, and a gateway that holds every `of`th device from `part`
    /// on and plays the agents. What a worker before it left open is sent again, as at agents' hellos.
    func worker() async throws {
        let (part, of) = (value("part", 0), value("of", 1))
        let agents = PeerAgents(bed: bed, atOnce: value("atOnce", 100))
        let devices = try await bed.knownTenants().flatMap { tenant in
            tenant.devices.enumerated().filter { $0.offset % of == part }.map {
                (tenant.organization, $0.element)
            }
        }
        let rebuilder = try await bed.awaitDataSet()
        let sink = try await Sink(bed, holding: devices.map(\.1)) { items, done in
            await agents.run(items, done)
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            group.addTask { await rebuilder.run() }
            group.addTask { await agents.work() }
            group.addTask { try await sink.stayPresent(with: devices.map(\.1)) }
            group.addTask { await sink.run() }
            await sink.receive(try await agents.open(devices))
            group.addTask {
                try await Workers(bed: bed, name: "bench.\(getpid())").beside {
                    try await Task.sleep(for: .seconds(86_400))
                }
            }
            try await group.waitForAll()
        }
    }
}

/// How many jobs were acknowledged.
private final class Acknowledged: Sendable {
    let count = Atomic<Int>(0)
}

/// What a harness has in a job.
private struct PeerTask: Codable {
    var seq: Int
    var t: Double
    var ms: Int
    var pad = String(repeating: "x", count: 440)
}

extension SubmittedJob {
    /// The job with a task in place of a signed statement.
    fileprivate func saying(_ task: PeerTask) throws -> SubmittedJob {
        var job = self
        job.statement = [UInt8](try JSONEncoder().encode(task))
        return job
    }
}

/// The agents of a worker: they do tasks, and write lines `S|E seq enqueued now pid` to standard output.
private final class PeerAgents: Sendable {
    typealias Done = @Sendable ([InboxLetter.Item]) -> Void

    private let bed: Bed
    private let seen = Mutex<Set<AttemptToken>>([])
    private let (tasks, feed) = AsyncStream<(InboxLetter.Item, PeerTask, Done)>.makeStream()
    private let atOnce: Int

    init(bed: Bed, atOnce: Int) {
        self.bed = bed
        self.atOnce = atOnce
    }

    /// What these devices were sent and have not answered: their agents have lost it with the worker before.
    func open(_ devices: [(OrganizationID, DeviceID)]) async throws -> [InboxLetter.Item] {
        try await withThrowingTaskGroup(of: [InboxLetter.Item].self) { group in
            for (organization, device) in devices {
                group.addTask {
                    try await self.bed.gateway.openAttempts(of: device, organization: organization).map {
                        InboxLetter.Item(
                            organization: $0.organization, job: $0.job, run: $0.run, device: $0.device,
                            attempt: $0.attempt, token: $0.token)
                    }
                }
            }
            return try await group.reduce(into: []) { $0 += $1 }
        }
    }

    /// Takes attempts as a gateway does, and runs those that were not seen before.
    func run(_ items: [InboxLetter.Item], _ done: @escaping Done) async {
        let new = seen.withLock { seen in items.filter { seen.insert($0.token).inserted } }
        guard !new.isEmpty else { return }
        do {
            let taken = Set(
                try await bed.gateway.take(new.map { ($0.organization, $0.run, $0.token) }).map(\.run))
            let contents = try await bed.gateway.contents(of: new.map { ($0.organization, $0.job) })
            var lines = ""
            var ended: [InboxLetter.Item] = []
            for item in new where taken.contains(item.run) {
                guard let content = contents[item.job] else { continue }
                let task = try JSONDecoder().decode(PeerTask.self, from: Data(content.statement))
                if task.ms > 0 {
                    feed.yield((item, task, done))
                } else {
                    lines += line("E", task)
                    ended.append(item)
                }
            }
            write(lines)
            done(ended)
        } catch {
            // As a gateway whose database fails: the attempts come again.
            seen.withLock { $0.subtract(new.map(\.token)) }
            Sink.complain("attempts were not taken: \(error)")
        }
    }

    /// Does tasks that last, so many at once.
    func work() async {
        await withTaskGroup(of: Void.self) { group in
            for _ in 0..<atOnce {
                group.addTask {
                    for await (item, task, done) in self.tasks {
                        self.write(self.line("S", task))
                        try? await Task.sleep(for: .milliseconds(task.ms))  // cancelled at the end
                        self.write(self.line("E", task))
                        done([item])
                    }
                }
            }
        }
    }

    private func line(_ kind: String, _ task: PeerTask) -> String {
        let now = Date().timeIntervalSince1970
        return "\(kind) \(task.seq) \(String(format: "%.6f %.6f", task.t, now)) \(getpid())\n"
    }

    private func write(_ lines: String) {
        guard !lines.isEmpty else { return }
        do {
            // In one piece: another worker may write to the same file.
            try FileHandle.standardOutput.write(contentsOf: Data(lines.utf8))
        } catch {
            Sink.complain("the log cannot be written: \(error)")
        }
    }
}

extension Bed {
    /// Rebuilds what a harness has emptied, as a worker of the installation does it meanwhile.
    fileprivate func awaitDataSet() async throws -> Rebuilder {
        let rebuilder = Rebuilder(ledger: worker, front: front, connection: redis, logger: Self.logger)
        while try await queue.epoch() == nil {
            if try await !rebuilder.checkOnce() { try await Task.sleep(for: .milliseconds(20)) }
        }
        return rebuilder
    }

    /// The tenants that `prepare` made, in the order of their making.
    fileprivate func knownTenants() async throws -> [BenchTenant] {
        let rows = try await owner.query(
            """
            SELECT o.partner_id, o.id, d.site_id, d.id FROM organizations o
            JOIN devices d ON d.organization_id = o.id ORDER BY o.id, d.id
            """, scope: .none
        ) { try $0.decode((PartnerID, OrganizationID, SiteID, DeviceID).self) }
        let tenants = Dictionary(grouping: rows, by: \.1).sorted { $0.key < $1.key }.map { id, rows in
            BenchTenant(
                partner: rows[0].0, organization: id, sites: [rows[0].2], devices: rows.map(\.3))
        }
        guard tenants.count == 2 else { throw BenchError("prepare comes first") }
        return tenants
    }
}

extension Sink {
    /// Keeps the heartbeat, and says again whom it holds when the data set is another.
    fileprivate func stayPresent(with devices: [DeviceID]) async throws {
        var known: Epoch?
        while !Task.isCancelled {
            do {
                try await bed.queue.beat(gateway: id, milliseconds: 3_000)
                if let epoch = try await bed.queue.epoch(), epoch != known {
                    _ = try await bed.queue.present(devices, gateway: id, epoch: epoch)
                    known = epoch
                }
            } catch {
                // Redis is away; it is told when it is back.
                known = nil
            }
            try await Task.sleep(for: .milliseconds(100))
        }
    }
}
