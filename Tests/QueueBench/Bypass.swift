import Domain
import Ledger
import Redis
import Streams
import Synchronization

/// The durable path without the queue's functions, for comparison.
extension Measure {
    /// As `drain` of one tenant, with a plain Redis stream in place of the queue: a feeder reads the backlog
    /// from PostgreSQL as refill does and adds it to the stream, a window of 256 at a time; two consumers
    /// read 128 entries with XREADGROUP, look up who holds the devices, mark, write to the inbox, and
    /// acknowledge with XACK and XDEL. The statements and the sink are those of `drain`. What is left out:
    /// the ready set, finish tags, caps, lanes of devices, leases, the membership of what runs, the bell.
    func bypass() async throws {
        let count = value("runs", 20_000)
        let tenant = try await bed.tenants(1, devices: value("devices", 1_000))[0]
        try await fill(tenant, count)
        let sink = try await Sink(bed, holding: tenant.devices)
        let stream = PlainStream(bed: bed, queue: OrganizationQueue(tenant.organization, .standard))
        try await stream.create()
        let settling = Task { await sink.run() }
        defer { settling.cancel() }
        let took = try await withThrowingTaskGroup(of: Double?.self) { group in
            for number in 0..<value("dispatchers", 3) {
                group.addTask {
                    try await stream.consume(as: "bench.\(number)")
                    return nil
                }
            }
            group.addTask {
                try await seconds {
                    // The consumers have begun to wait, as the dispatchers of `drain` have.
                    async let feeding: Void = stream.feed()
                    try await wait(for: [sink], total: count)
                    stream.end()
                    try await feeding
                }
            }
            defer { group.cancelAll() }
            while let value = try await group.next() {
                if let value { return value }
            }
            throw BenchError("the consumers stopped")
        }
        say(["runsPerSecond": Double(count) / took])
    }
}

extension Measure {
    /// As `drain` of one tenant, with the ready set bypassed: a claim takes from the one queue that has
    /// entries, without tags, virtual time, and who is in service. All else is the product's.
    func direct() async throws {
        try await bed.redis.load(try DirectLibrary.source())
        try await drain()
    }
}

/// The shipped function library without its ready set, for one organization with one queue.
private enum DirectLibrary {
    private static let replacements = [
        (
            "local rows = redis.call('ZRANGE', k.ready, 0, most - 1, 'WITHSCORES')",
            "local rows = directRows(k)"
        ),
        (
            "local function charge(call, k, candidate, tags)",
            "local function charge(call, k, candidate, tags)\n            do return 0 end"
        ),
        (
            "local function offer(call, k, organization)",
            """
            local function directRows(k)
                local depths = redis.call('HGETALL', k.depth)
                for i = 1, #depths, 2 do
                    local organization = string.match(depths[i], '^(%x.*):%d$')
                    if organization and tonumber(depths[i + 1]) > 0 then return {organization, '0'} end
                end
                return {}
            end

            local function offer(call, k, organization)
                do return false end
            """
        ),
        (
            "if redis.call('EXISTS', k.ready) == 1 and redis.call('EXISTS', k.bell) == 0",
            "if #directRows(k) > 0 and redis.call('EXISTS', k.bell) == 0"
        ),
        (
            "until #leases >= limit or redis.call('EXISTS', k.ready) == 0",
            "until #leases >= limit or #directRows(k) == 0"
        ),
        (
            "local reply, scores = {redis.call('EXISTS', k.ready)}, {}",
            "local reply, scores = {math.min(1, #directRows(k))}, {}"
        ),
    ]

    /// Under the shipped name; the next measurement puts the shipped text back.
    static func source() throws -> RedisFunctionLibrary {
        let shipped = Library.source(suffix: "")
        var source = shipped.source
        for (text, other) in replacements {
            let parts = source.split(separator: text, omittingEmptySubsequences: false)
            guard parts.count == 2 else {
                throw BenchError("the library has this text \(parts.count - 1) times: \(text)")
            }
            source = parts.joined(separator: other)
        }
        return RedisFunctionLibrary(name: shipped.name, source: source)
    }
}

/// A stream of runs with one group of consumers.
private final class PlainStream: Sendable {
    private let bed: Bed
    private let queue: OrganizationQueue
    // Rings when entries have gone.
    private let gone = AsyncStream<Void>.makeStream(bufferingPolicy: .bufferingNewest(1))

    init(bed: Bed, queue: OrganizationQueue) {
        self.bed = bed
        self.queue = queue
    }

    func create() async throws {
        _ = try await bed.redis.send(RedisCommand("XGROUP", "CREATE", "bench", "bench", "0", "MKSTREAM"))
    }

    /// No more is to be fed.
    func end() { gone.continuation.finish() }

    /// Keeps up to 256 entries in the stream until the end.
    func feed() async throws {
        var last = RunID(.zero)
        var known: [QueuedRun] = []
        gone.continuation.yield()
        for await _ in gone.stream {
            while true {
                let length = try await bed.redis.send(RedisCommand("XLEN", "bench")).int ?? 0
                let room = 256 - length
                guard room > 0 else { break }
                if known.count < room {
                    let read = try await bed.worker.queuedRuns(of: [(queue, after: last)], limit: 384)[queue]
                    known = read ?? []
                }
                guard !known.isEmpty else { break }
                let commands = known.prefix(room).map { run in
                    let text = "\(run.organization) \(run.run) \(run.generation) \(run.device)"
                    return RedisCommand("XADD", "bench", "*", "w", .string(text))
                }
                last = known[commands.count - 1].run
                known.removeFirst(commands.count)
                for result in try await bed.redis.send(commands) { _ = try result.get() }
            }
        }
    }

    /// Takes what comes to the inboxes until cancelled.
    func consume(as consumer: String) async throws {
        let blocking = try bed.blocking()
        let read = RedisCommand(
            "XREADGROUP", "GROUP", "bench", .string(consumer), "COUNT", 128, "BLOCK", 1_000, "STREAMS",
            "bench", ">")
        while !Task.isCancelled {
            do {
                let reply = try await blocking.send(read, timeout: .seconds(5))
                let entries = reply.array?.first?.array?.last?.array ?? []
                guard !entries.isEmpty else { continue }
                let runs = entries.compactMap { entry in
                    entry.array?.last?.array?.last?.text.flatMap(Self.parse)
                }
                let presences = try await bed.queue.presence(of: runs.map(\.device))
                _ = try await Steps(bed: bed).pass(
                    zip(runs, presences).compactMap { run, presence in
                        presence.map { (run.organization, run.run, run.generation, $0.gateway) }
                    }, claimed: .now)
                let ids = entries.compactMap { $0.array?.first?.text }.map { RedisArgument.string($0) }
                for result in try await bed.redis.send([
                    RedisCommand("XACK", arguments: ["bench", "bench"] + ids),
                    RedisCommand("XDEL", arguments: ["bench"] + ids),
                ]) {
                    _ = try result.get()
                }
                gone.continuation.yield()
            } catch {
                guard !Task.isCancelled else { break }
                throw error
            }
        }
        await blocking.close()
    }

    private static func parse(
        _ text: String
    ) -> (organization: OrganizationID, run: RunID, generation: Int, device: DeviceID)? {
        let words = text.split(separator: " ")
        guard words.count == 4, let organization = OrganizationID(words[0]), let run = RunID(words[1]),
            let generation = Int(words[2]), let device = DeviceID(words[3])
        else { return nil }
        return (organization, run, generation, device)
    }
}
