import Domain
import Logging
import Redis
import Synchronization
import TestSupport
import Testing

@testable import Streams

/// A queue of its own in the real server: own prefix, own library, and calls with less to type.
struct Bench: Sendable {
    let place: TestQueue
    let epoch: Epoch

    var connection: RedisConnection { place.connection }
    var queue: Queue { place.queue }
    var prefix: String { queue.keys.prefix }

    static let libraryOfTests = TestQueue.librarySuffix
    static let logger = Logger.quiet

    static func configuration() throws -> RedisConfiguration { try TestQueue.configuration() }

    /// Runs a test on an empty, open partition and removes its keys afterwards.
    static func run(
        on server: RedisConfiguration? = nil, _ body: (Bench) async throws -> Void
    ) async throws {
        // In a cluster any of four, which lie on different nodes.
        let isCluster = try (server ?? configuration()).deployment == .cluster
        let partition = isCluster ? Int.random(in: 0..<4) : 0
        try await TestQueue.with(on: server, partition: partition, of: isCluster ? 4 : 1) { place in
            let bench = Bench(place: place, epoch: Epoch.fresh())
            try await bench.queue.rebuild(epoch: bench.epoch, entitlements: [], running: [])
            try await body(bench)
        }
    }

    /// All keys of this bench.
    func keys() async throws -> Set<String> { try await place.keys() }

    /// The partition's keys without what is common to their names, and without hashes that are empty but for
    /// the field that makes them tables.
    func names() async throws -> Set<String> {
        let head = queue.keys.key("")
        var names = Set(
            try await keys().filter { $0.hasPrefix(head) }.map { String($0.dropFirst(head.count)) })
        for name in ["live", "slots", "presence", "depth", "caps", "versions"] {
            // A key that is no hash fails, and stays.
            if let fields = try? await hash(name), fields.isEmpty { names.remove(name) }
        }
        return names
    }

    /// The most entries that a queue has in Redis, without those that are set aside.
    static let window = 1_024

    // MARK: Raw looks

    func raw(_ command: String, _ key: String, _ arguments: RedisArgument...) async throws -> RedisValue {
        try await connection.send(
            RedisCommand(command, arguments: [.string(queue.keys.key(key))] + arguments))
    }

    /// A hash without the field that makes it a table.
    func hash(_ key: String) async throws -> [String: String] {
        let flat = try await raw("HGETALL", key).array?.compactMap(\.text) ?? []
        let fields = stride(from: 0, to: flat.count, by: 2).lazy.filter { !flat[$0].hasPrefix("--") }
        return Dictionary(uniqueKeysWithValues: fields.map { (flat[$0], flat[$0 + 1]) })
    }

    /// The members of a sorted set.
    func members(_ key: String) async throws -> [String] {
        try await raw("ZRANGE", key, 0, -1).array?.compactMap(\.text) ?? []
    }

    /// The whole content of the partition, byte for byte.
    func dump() async throws -> [String: RedisValue] {
        var content: [String: RedisValue] = [:]
        for key in try await keys() {
            content[key] = try await connection.send(RedisCommand("DUMP", .string(key)))
        }
        return content
    }

    func queueName(_ organization: OrganizationID, _ priority: Priority = .standard) -> String {
        "queue:\(organization):\(priority.rawValue)"
    }

    // MARK: Short calls

    @discardableResult
    func enqueue(
        _ entries: [Entry], _ organization: OrganizationID, _ priority: Priority = .standard
    ) async throws -> Enqueued {
        try await queue.enqueue(entries, in: organization.queue(priority), epoch: epoch)
    }

    func claim(_ limit: Int = 128, owner: String = "a", lease: Int = 60_000) async throws -> [Claim] {
        try await queue.claim(owner: owner, limit: limit, leaseMilliseconds: lease, epoch: epoch).items
    }

    func start(_ claims: [Claim]) async throws {
        try await queue.acknowledge(dispatched: claims, dropped: [], deadlineMilliseconds: 1, epoch: epoch)
    }

    func drop(_ claims: [Claim]) async throws {
        try await queue.acknowledge(dispatched: [], dropped: claims, deadlineMilliseconds: 1, epoch: epoch)
    }

    @discardableResult
    func settle(_ claims: [Claim]) async throws -> Int {
        try await queue.settle(claims.map(\.settled), epoch: epoch)
    }

    func finish(_ claims: [Claim]) async throws {
        try await start(claims)
        try await settle(claims)
    }

    /// Takes the token of the bell, as a dispatcher that dies right after it.
    func takeBell() async throws -> Bool {
        try await raw("LPOP", "bell") != .null
    }
}

extension Claim {
    /// The end of this run.
    var settled: Settled {
        Settled(organization: organization, run: run, generation: generation, device: device)
    }
}

/// Ids for tests: a later one sorts after an earlier one.
enum Draw {
    private static let drawn = Atomic(0)

    private static func id<Subject>() -> ID<Subject> {
        let milliseconds = 1_700_000_000_000 + Int64(drawn.wrappingAdd(1, ordering: .relaxed).newValue)
        return .new(at: Instant(microseconds: milliseconds * 1_000))
    }

    static func organization() -> OrganizationID { id() }
    static func device() -> DeviceID { id() }
    static func gateway() -> GatewayID { id() }
    static func run() -> RunID { id() }

    /// Entries of first generation, each for a device of its own unless one is given.
    static func entries(_ count: Int, device: DeviceID? = nil) -> [Entry] {
        (0..<count).map { _ in Entry(run: run(), generation: 1, device: device ?? self.device()) }
    }
}
