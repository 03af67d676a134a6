import Domain
package import Logging
package import Redis

/// One partition of the queue: typed calls of the functions that run inside Redis.
///
/// Every call that touches the partition names the epoch it expects and throws `QueueError.staleEpoch` for
/// another. A list of any length is cut into calls of at most 128 runs, which are sent in one pipeline; each
/// call is atomic, the list is not. All calls may be made concurrently.
package final class Queue: Sendable {
    let connection: RedisConnection
    /// Where its keys lie.
    package let keys: Keyspace
    let logger: Logger

    /// The most runs that one function call takes, so that none blocks the server for long.
    package static let runsPerCall = 128
    private static let triesMax = 4

    private let loader: (@Sendable () -> RedisConnection)?

    /// The queue behind a connection, which its owner starts and closes. A server that has lost the function
    /// library gets it again through a connection that `loader` opens, as a user who may.
    package init(
        connection: RedisConnection, keys: Keyspace, logger: Logger,
        loader: (@Sendable () -> RedisConnection)? = nil
    ) {
        self.connection = connection
        self.keys = keys
        self.logger = logger
        self.loader = loader
    }

    /// The queue of another partition over the same connection.
    package func beside(_ keys: Keyspace) -> Queue {
        Queue(connection: connection, keys: keys, logger: logger, loader: loader)
    }

    /// Loads the function library, as a user who may; does nothing where it is there already.
    package func load(using loader: RedisConnection) async throws {
        try await loader.load(Library.source(suffix: keys.librarySuffix))
    }

    /// The servers that lack this release's function library, as a user sees it who may load it.
    package static func serversWithoutLibrary(_ loader: RedisConnection) async throws -> [RedisNode] {
        try await loader.masters(without: Library.source(suffix: ""))
    }

    /// The identity of the data set; `nil` says that it is lost or being rebuilt. Waits no longer than is
    /// said.
    package func epoch(within limit: Duration? = nil) async throws -> Epoch? {
        try await send(RedisCommand("GET", .string(keys.key("epoch"))), within: limit).text.map(Epoch.init)
    }

    /// The server that has the partition: its process and its role, which a cluster, a restart or a failover
    /// changes, and the layout of the keys.
    package func server() async throws -> String {
        let info = try await send(RedisCommand("INFO", "server", "replication").near(keys.key("epoch"))).text
        func field(_ name: String) throws -> String {
            for line in (info ?? "").split(whereSeparator: \.isNewline) where line.hasPrefix("\(name):") {
                return String(line.dropFirst(name.count + 1))
            }
            throw QueueError.refused("Redis does not say its \(name)")
        }
        return try "\(field("run_id"))/\(field("role"))/\(keys.layout)"
    }

    // MARK: Calls

    /// A call of a function on the partition's keys.
    func command(_ function: String, epoch: Epoch, _ arguments: [RedisArgument]) -> RedisCommand {
        let head: [RedisArgument] = [
            .string(keys.function(function)), 1, .string(keys.key("epoch")), .string(epoch.id),
        ]
        var command = RedisCommand("FCALL", arguments: head)
        command.append(contentsOf: arguments)
        return command
    }

    func call(_ function: String, epoch: Epoch, _ arguments: [RedisArgument]) async throws -> RedisValue {
        try await send(command(function, epoch: epoch, arguments))
    }

    /// Calls a function for slices of `rows`, in one pipeline. `arguments` encodes a slice.
    func call<Row>(
        _ function: String, epoch: Epoch, slicing rows: [Row],
        _ arguments: (ArraySlice<Row>) -> [RedisArgument]
    ) async throws -> [RedisValue] {
        let slices = stride(from: 0, to: rows.count, by: Self.runsPerCall).map {
            rows[$0..<min($0 + Self.runsPerCall, rows.count)]
        }
        guard slices.count != 1 else { return [try await call(function, epoch: epoch, arguments(slices[0]))] }
        guard !slices.isEmpty else { return [] }
        var values: [RedisValue] = []
        for result in try await connection.send(
            slices.map { command(function, epoch: epoch, arguments($0)) })
        {
            switch result {
            case .success(let value): values.append(value)
            case .failure(let error): throw await explained(error)
            }
        }
        return values
    }

    /// What an error means. A function that the move of a slot has cut off leaves a data set that nobody may
    /// believe: its epoch goes, and it is built anew.
    private func explained(_ error: RedisError) async -> any Error {
        let meant = QueueError(error)
        if meant == .cutOff {
            logger.notice("a function was cut off by the move of a slot; the partition is built anew")
            // Who cannot say it now fails again, or finds another server after the move.
            _ = try? await connection.send(RedisCommand("DEL", .string(keys.key("epoch"))))
        }
        return meant ?? error
    }

    /// Sends a command; a cluster that moves the partition just now asks to try again.
    func send(_ command: RedisCommand, within limit: Duration? = nil) async throws -> RedisValue {
        for attempt in 1... {
            do {
                return try await connection.send(command, timeout: limit)
            } catch let error as RedisError {
                if attempt == 1, QueueError(error) == .libraryMissing, try await reload(command) { continue }
                guard error.serverCode == "TRYAGAIN", attempt < Self.triesMax else {
                    throw await explained(error)
                }
                logger.debug("partition is moving", metadata: ["attempt": "\(attempt)"])
                try await Task.sleep(for: .milliseconds(10 << attempt))
            }
        }
        fatalError("the loop has no end")
    }

    /// Loads the library anew into the server that lacked it; false if nobody said how.
    private func reload(_ command: RedisCommand) async throws -> Bool {
        guard let loader else { return false }
        let connection = loader()
        do {
            let library = Library.source(suffix: keys.librarySuffix)
            try await connection.load(library, near: command.firstKey ?? keys.key("epoch"))
            await connection.close()
        } catch {
            await connection.close()
            throw error
        }
        logger.notice("function library loaded again")
        return true
    }
}

extension RedisArgument {
    static func id<Subject>(_ id: ID<Subject>) -> RedisArgument { .string(id.description) }

    static func priority(_ priority: Priority) -> RedisArgument { .int(Int(priority.rawValue)) }
}

extension RedisValue {
    /// The elements of a flat reply.
    func elements() throws -> [RedisValue] {
        guard case .array(let elements) = self else {
            throw QueueError.refused("a function answered no list")
        }
        return elements
    }

    /// The whole number that stands here.
    func number() throws -> Int {
        guard let int else { throw QueueError.refused("a function answered no number") }
        return int
    }

    /// The whole numbers of a flat reply.
    func numbers(_ count: Int) throws -> [Int] {
        let numbers = try elements().map { try $0.number() }
        guard numbers.count == count else {
            throw QueueError.refused("a function answered \(numbers.count) numbers")
        }
        return numbers
    }
}
