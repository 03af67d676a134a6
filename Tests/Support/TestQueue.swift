package import Redis
package import Streams

/// A queue under a prefix of its own in the server that `CLOUDRMM_TEST_REDIS_URL` names, with its library.
package struct TestQueue: Sendable {
    /// The connection that it speaks over.
    package let connection: RedisConnection
    /// The queue.
    package let queue: Queue

    /// What the name of the tests' library carries.
    package static let librarySuffix = "_tests"

    /// How the tests' server, or cluster, is reached.
    package static func configuration() throws -> RedisConfiguration {
        try RedisConfiguration(url: setting("CLOUDRMM_TEST_REDIS_URL"))
    }

    /// Runs a body with a queue whose keys are gone afterwards.
    package static func with(
        on server: RedisConfiguration? = nil, partition: Int = 0, of count: Int = 1,
        _ body: (TestQueue) async throws -> Void
    ) async throws {
        let configuration = try server ?? configuration()
        let connection = RedisConnection(configuration: configuration, logger: .quiet)
        connection.start()
        let keys = Keyspace(
            prefix: "crmm-test-\(UInt64.random(in: 0 ... .max)):", partition: partition, of: count,
            librarySuffix: librarySuffix)
        let queue = Queue(connection: connection, keys: keys, logger: .quiet) {
            let loader = RedisConnection(configuration: configuration, logger: .quiet)
            loader.start()
            return loader
        }
        let made = TestQueue(connection: connection, queue: queue)
        do {
            try await made.queue.load(using: connection)
            try await body(made)
        } catch {
            try await made.end()
            throw error
        }
        try await made.end()
    }

    private func end() async throws {
        try await wipe()
        await connection.close()
    }

    /// All its keys.
    package func keys() async throws -> Set<String> {
        var keys: Set<String> = []
        for master in try await connection.masters() { keys.formUnion(try await self.keys(of: master)) }
        return keys
    }

    private func keys(of master: RedisNode) async throws -> Set<String> {
        var cursor = "0"
        var keys: Set<String> = []
        repeat {
            let scan = RedisCommand(
                "SCAN", .string(cursor), "MATCH", .string(queue.keys.prefix + "*"), "COUNT", 1_000)
            let reply = try await master.send(scan).array ?? []
            cursor = reply.first?.text ?? "0"
            keys.formUnion(reply.last?.array?.compactMap(\.text) ?? [])
        } while cursor != "0"
        return keys
    }

    /// Loses everything that it holds, as `FLUSHALL` would.
    package func wipe() async throws {
        for key in try await keys() { _ = try await connection.send(RedisCommand("DEL", .string(key))) }
    }
}
