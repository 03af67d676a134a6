import Foundation
import Glibc
import Logging
package import Redis
import Synchronization

/// Masters of a cluster on the loopback, each with an equal part of the slots; they end with the last
/// reference.
package final class RedisCluster: Sendable {
    /// One master.
    package struct Node: Sendable {
        /// Where clients find it.
        package let port: Int
        /// A connection to it alone, beside the cluster.
        package let direct: RedisConnection
        fileprivate let id: String
    }

    /// The masters, by their first slots.
    package let nodes: [Node]
    private let directory: String
    private let arguments: [String]
    private let processes = Mutex<[Process]>([])

    /// Starts the masters and returns when each of them says that the cluster is whole. `arguments` are of
    /// each; with `isSecure` their port speaks TLS alone.
    package init(masters count: Int = 3, arguments: [String] = [], isSecure: Bool = false) async throws {
        directory = "/tmp/crmm-cluster-\(UInt32.random(in: 0 ... .max))"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: false)
        self.arguments = arguments
        let ports = LoopbackPorts.free(count)
        var nodes: [Node] = []
        for (index, port) in ports.enumerated() {
            let own = isSecure ? ["--port", "0", "--tls-port", "\(port)"] : ["--port", "\(port)"]
            let process = try Self.start(directory, index, own + arguments)
            processes.withLock { $0.append(process) }
            let direct = try Self.connection(directory, index)
            try await Self.untilAnswers(direct, process)
            let id = try await direct.send(RedisCommand("CLUSTER", "MYID")).text ?? ""
            nodes.append(Node(port: port, direct: direct, id: id))
        }
        self.nodes = nodes
        for (index, node) in nodes.enumerated() {
            let (first, last) = (16_384 * index / count, 16_384 * (index + 1) / count - 1)
            _ = try await node.direct.send(RedisCommand("CLUSTER", "ADDSLOTSRANGE", .int(first), .int(last)))
            // Different epochs from the start: nobody has to give way to another.
            _ = try await node.direct.send(RedisCommand("CLUSTER", "SET-CONFIG-EPOCH", .int(index + 1)))
        }
        for other in nodes.dropFirst() {
            _ = try await nodes[0].direct.send(RedisCommand("CLUSTER", "MEET", "127.0.0.1", .int(other.port)))
        }
        try await untilWhole()
    }

    deinit {
        let running = processes.withLock { $0 }
        for process in running { process.killAndWait() }
        try? FileManager.default.removeItem(atPath: directory)  // what is left does no harm
    }

    /// Nothing by itself: the servers end with the last reference, and this is one at the end of a test.
    package func stop() {}

    /// An address of the cluster; credentials end with `@`.
    package func url(
        scheme: String = "redis+cluster", credentials: String = "", parameters: String = ""
    ) -> String {
        let places = nodes.map { "127.0.0.1:\($0.port)" }.joined(separator: ",")
        return "\(scheme)://\(credentials)\(places)\(parameters)"
    }

    /// Waits until every master says that all slots are served and all masters are known.
    package func untilWhole() async throws {
        for node in nodes {
            while true {
                let info = try await node.direct.send(RedisCommand("CLUSTER", "INFO")).text ?? ""
                let map = try await node.direct.send(RedisCommand("CLUSTER", "SLOTS")).array ?? []
                let owners = Set(map.compactMap { $0.array?[2].array?.last { $0.array == nil }?.text })
                if info.contains("cluster_state:ok"), owners.count == nodes.count { break }
            }
        }
    }

    // MARK: Replicas

    /// Gives a master a replica, and returns when it has what the master has.
    package func addReplica(of index: Int) async throws -> Node {
        let (number, port) = (processes.withLock { $0.count }, LoopbackPorts.free(1)[0])
        let process = try Self.start(directory, number, ["--port", "\(port)"] + arguments)
        processes.withLock { $0.append(process) }
        let direct = try Self.connection(directory, number)
        try await Self.untilAnswers(direct, process)
        let id = try await direct.send(RedisCommand("CLUSTER", "MYID")).text ?? ""
        _ = try await direct.send(RedisCommand("CLUSTER", "MEET", "127.0.0.1", .int(nodes[index].port)))
        // Refused until it has heard of the master.
        while (try? await direct.send(RedisCommand("CLUSTER", "REPLICATE", .string(nodes[index].id)))) == nil
        {}
        while try await !(direct.send(RedisCommand("INFO", "replication")).text ?? "")
            .contains("master_link_status:up")
        {}
        let replica = Node(port: port, direct: direct, id: id)
        // Who votes for it has to know it.
        for node in nodes {
            while try await !(node.direct.send(RedisCommand("CLUSTER", "NODES")).text ?? "")
                .split(whereSeparator: \.isNewline)
                .contains(where: { $0.hasPrefix(id) && $0.contains("slave \(nodes[index].id)") })
            {}
        }
        return replica
    }

    /// Waits until these masters say that the node serves a slot.
    package func untilServed(_ slot: Int, by node: Node, asSeenBy witnesses: [Int]) async throws {
        for index in witnesses {
            while try await server(of: slot, asSeenBy: nodes[index]) != node.id {}
        }
    }

    private func server(of slot: Int, asSeenBy node: Node) async throws -> String? {
        let map = try await node.direct.send(RedisCommand("CLUSTER", "SLOTS")).array ?? []
        return map.compactMap(\.array).first { range in
            guard let first = range[0].int, let last = range[1].int else { return false }
            return first <= slot && slot <= last
        }?[2].array?[2].text
    }

    // MARK: Faults

    /// A master dies as by a crash.
    package func end(_ index: Int) {
        let process = processes.withLock { $0[index] }
        process.killAndWait()
    }

    /// A master stands still: what is sent to it is not answered.
    package func suspend(_ index: Int) throws {
        let process = processes.withLock { $0[index] }
        guard kill(process.processIdentifier, SIGSTOP) == 0 else {
            throw RedisError(.configuration, "the node \(index) has gone")
        }
    }

    /// It goes on.
    package func resume(_ index: Int) throws {
        let process = processes.withLock { $0[index] }
        guard kill(process.processIdentifier, SIGCONT) == 0 else {
            throw RedisError(.configuration, "the node \(index) has gone")
        }
    }

    /// It comes back, with its slots and without any data or function, and is known again.
    package func restart(_ index: Int, isSecure: Bool = false) async throws {
        let port = nodes[index].port
        let process = try Self.start(
            directory, index,
            (isSecure ? ["--port", "0", "--tls-port", "\(port)"] : ["--port", "\(port)"]) + arguments)
        processes.withLock { $0[index] = process }
        try await Self.untilAnswers(nodes[index].direct, process)
        try await untilWhole()
    }

    // MARK: Slots on their way

    /// The master that serves a slot by what it says of itself.
    package func owner(of slot: Int) async throws -> Int {
        for (index, node) in nodes.enumerated() {
            let map = try await node.direct.send(RedisCommand("CLUSTER", "SLOTS")).array ?? []
            for range in map.compactMap(\.array) {
                guard let first = range[0].int, let last = range[1].int, (first...last).contains(slot),
                    range[2].array?[2].text == node.id
                else { continue }
                return index
            }
        }
        throw RedisError(.configuration, "nobody serves the slot \(slot)")
    }

    /// Begins to move a slot: new keys come into being at the other master.
    package func beginMove(of slot: Int, from source: Int, to target: Int) async throws {
        try await setSlot(slot, at: target, "IMPORTING", nodes[source].id)
        try await setSlot(slot, at: source, "MIGRATING", nodes[target].id)
    }

    /// Moves up to so many of its keys; returns how many there were.
    package func moveKeys(of slot: Int, from source: Int, to target: Int, limit: Int = 100) async throws
        -> Int
    {
        let keys =
            try await nodes[source].direct.send(
                RedisCommand("CLUSTER", "GETKEYSINSLOT", .int(slot), .int(limit))
            ).array ?? []
        guard !keys.isEmpty else { return 0 }
        var migrate = RedisCommand(
            "MIGRATE", "127.0.0.1", .int(nodes[target].port), "", 0, 5_000, "REPLACE", "KEYS")
        for case .string(let key) in keys { migrate.append(.bytes(key)) }
        _ = try await nodes[source].direct.send(migrate)
        return keys.count
    }

    /// The other master has all of the slot from now on.
    package func endMove(of slot: Int, from source: Int, to target: Int) async throws {
        for index in [target, source] + nodes.indices.filter({ $0 != target && $0 != source }) {
            try await setSlot(slot, at: index, "NODE", nodes[target].id)
        }
    }

    private func setSlot(_ slot: Int, at index: Int, _ state: String, _ id: String) async throws {
        _ = try await nodes[index].direct.send(
            RedisCommand("CLUSTER", "SETSLOT", .int(slot), .string(state), .string(id)))
    }

    // MARK: Processes

    private static func start(_ directory: String, _ index: Int, _ arguments: [String]) throws -> Process {
        let process = Process()
        process.executableURL = URL(filePath: "/usr/bin/redis-server")
        process.arguments =
            [
                "--bind", "127.0.0.1", "--dir", directory, "--save", "", "--unixsocket",
                "\(directory)/\(index).sock", "--cluster-enabled", "yes", "--cluster-config-file",
                "nodes-\(index).conf", "--cluster-node-timeout", "2000",
                "--cluster-require-full-coverage", "no",
            ] + arguments
        (process.standardOutput, process.standardError) = (FileHandle.nullDevice, FileHandle.nullDevice)
        try process.run()
        return process
    }

    private static func connection(_ directory: String, _ index: Int) throws -> RedisConnection {
        RedisConnection(
            configuration: try RedisConfiguration(url: "unix://\(directory)/\(index).sock"), logger: .quiet)
    }

    private static func untilAnswers(_ connection: RedisConnection, _ process: Process) async throws {
        while true {
            do {
                _ = try await connection.send(RedisCommand("PING"))
                return
            } catch let error as RedisError where error.isTransient && process.isRunning {
                // It is about to listen.
            }
        }
    }
}

extension Process {
    /// Ends a process and waits for that. `waitUntilExit` needs a run loop that hears of it, which a thread
    /// of the pool has not.
    package func killAndWait() {
        kill(processIdentifier, SIGKILL)
        while isRunning { sched_yield() }
    }
}
