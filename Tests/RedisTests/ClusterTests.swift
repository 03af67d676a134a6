import Synchronization
import TestSupport
import Testing

@testable import Redis

/// A connection that finds each key's node in a cluster, and follows the slots.
@Suite(.serialized) struct ClusterTests {
    private static let library = RedisFunctionLibrary(
        name: "cluster_tests",
        source: """
            #!lua name=cluster_tests
            redis.register_function('cluster_tests_add', function(keys, args)
                return redis.call('INCRBY', keys[1], args[1])
            end)
            """)

    @Test("Keys all over the cluster are written and read, in one pipeline and one by one")
    func keys() async throws {
        let cluster = try await RedisCluster()
        defer { cluster.stop() }
        // Knows the others by one of them.
        let redis = connection(
            try RedisConfiguration(url: "redis+cluster://127.0.0.1:\(cluster.nodes[1].port)"))
        let names = (0..<60).map { "key:\($0)" }
        for result in try await redis.send(names.map { RedisCommand("SET", .string($0), .string($0)) }) {
            _ = try result.get()
        }
        for name in names { #expect(try await redis.send(RedisCommand("GET", .string(name))).text == name) }
        var counts: [Int] = []
        for node in try await redis.masters() {
            counts.append(try await node.send(RedisCommand("DBSIZE")).int ?? 0)
        }
        #expect(counts.count == 3 && counts.reduce(0, +) == 60 && !counts.contains(0))
        #expect(redis.redirections == (0, 0), "the map of slots led everywhere")
        let other = try await redis.send(RedisCommand("CLUSTER", "MYID").near(names[0])).text
        #expect(try await redis.send(RedisCommand("CLUSTER", "MYID").near("{\(names[0])}:x")).text == other)
        await redis.close()
    }

    @Test("What would span slots is refused and names the keys; one hash tag makes it possible")
    func crossing() async throws {
        let cluster = try await RedisCluster()
        defer { cluster.stop() }
        let redis = connection(try RedisConfiguration(url: cluster.url()))
        let error = await #expect(throws: RedisError.self) {
            try await redis.send(RedisCommand("DEL", "first", "second"))
        }
        #expect(error?.serverCode == "CROSSSLOT" && error?.mayHaveRun == false)
        #expect(error?.message.contains("“first” and “second” of one DEL") == true)
        let whole = await #expect(throws: RedisError.self) {
            try await redis.transaction([RedisCommand("SET", "first", 1), RedisCommand("SET", "second", 1)])
        }
        #expect(whole?.message.contains("“first” and “second” of one transaction") == true)
        #expect(try await redis.send(RedisCommand("EXISTS", "first")).int == 0)
        let values = try await redis.transaction([
            RedisCommand("SET", "{a}first", 1), RedisCommand("INCR", "{a}first"),
        ])
        #expect(values.last?.int == 2)
        #expect(try await redis.send(RedisCommand("DEL", "{a}first", "{a}second")).int == 1)
        await redis.close()
    }

    @Test("While a slot moves each command is carried out once, where its key is")
    func move() async throws {
        let cluster = try await RedisCluster()
        defer { cluster.stop() }
        let redis = connection(try RedisConfiguration(url: cluster.url()))
        let slot = ClusterMap.slot(of: Array("moving".utf8)[...])
        let source = try await cluster.owner(of: slot)
        let target = (source + 1) % 3
        let names = (0..<40).map { "{moving}:\($0)" }
        let expected = Atomic(0)
        let isOver = Atomic(false)
        let work = Task {
            while !isOver.load(ordering: .relaxed) {
                for result in try await redis.send(names.map { RedisCommand("INCR", .string($0)) }) {
                    _ = try result.get()
                    expected.add(1, ordering: .relaxed)
                }
                _ = try await redis.transaction([RedisCommand("INCR", "{moving}:whole")])
                expected.add(1, ordering: .relaxed)
            }
        }
        while expected.load(ordering: .relaxed) < 500 { await Task.yield() }
        try await cluster.beginMove(of: slot, from: source, to: target)
        while redis.redirections.asked == 0 {
            _ = try await cluster.moveKeys(of: slot, from: source, to: target, limit: 5)
        }
        while try await cluster.moveKeys(of: slot, from: source, to: target) > 0 {}
        try await cluster.endMove(of: slot, from: source, to: target)
        while redis.redirections.moved == 0 { await Task.yield() }
        let enough = expected.load(ordering: .relaxed) + 500
        while expected.load(ordering: .relaxed) < enough { await Task.yield() }
        isOver.store(true, ordering: .relaxed)
        try await work.value
        var sum = 0
        for name in names + ["{moving}:whole"] {
            sum += try await redis.send(RedisCommand("GET", .string(name))).int ?? 0
        }
        #expect(sum == expected.load(ordering: .relaxed))
        #expect(try await cluster.nodes[target].direct.send(RedisCommand("DBSIZE")).int == 41)
        await redis.close()
    }

    @Test("A command that waits on a node goes on to wait where its slot has gone")
    func blocking() async throws {
        let cluster = try await RedisCluster()
        defer { cluster.stop() }
        let redis = connection(try RedisConfiguration(url: cluster.url()))
        let blocking = blockingConnection(try RedisConfiguration(url: cluster.url()))
        let slot = ClusterMap.slot(of: Array("bell".utf8)[...])
        let source = try await cluster.owner(of: slot)
        let popped = Task {
            try await blocking.send(RedisCommand("BLPOP", "bell", 60), timeout: .seconds(65))
        }
        while try await !(redis.send(RedisCommand("CLIENT", "LIST").near("bell")).text ?? "").contains(
            "cmd=blpop")
        {}
        try await cluster.beginMove(of: slot, from: source, to: (source + 1) % 3)
        try await cluster.endMove(of: slot, from: source, to: (source + 1) % 3)
        _ = try await redis.send(RedisCommand("RPUSH", "bell", "rung"))
        #expect(try await popped.value.array?.last?.text == "rung")
        await blocking.close()
        await redis.close()
    }

    @Test("A dead master takes its own slots away and no others; it is found again when it comes back")
    func death() async throws {
        let cluster = try await RedisCluster()
        defer { cluster.stop() }
        let redis = connection(try RedisConfiguration(url: cluster.url()))
        try await redis.load(Self.library)
        func key(of node: Int) async throws -> String {
            for number in 0... {
                let key = "key:\(number)"
                if try await cluster.owner(of: ClusterMap.slot(of: Array(key.utf8)[...])) == node {
                    return key
                }
            }
            fatalError("every node has some of the keys")
        }
        let keys = [try await key(of: 0), try await key(of: 1), try await key(of: 2)]
        for key in keys {
            let sum = try await redis.call("cluster_tests_add", keys: [key], arguments: [5])
            #expect(sum.int == 5)
        }
        cluster.end(1)
        let lost = await #expect(throws: RedisError.self) {
            try await redis.send(RedisCommand("GET", .string(keys[1])), timeout: .seconds(1))
        }
        #expect(lost?.isTransient == true)
        for key in [keys[0], keys[2]] {
            #expect(try await redis.send(RedisCommand("GET", .string(key))).int == 5)
        }
        #expect(try await redis.send(RedisCommand("PING")) == .status("PONG"))
        // The library is loaded where it can be.
        try await redis.load(Self.library)
        let mixed = try await redis.send(keys.map { RedisCommand("INCR", .string($0)) })
        #expect(try mixed[0].get().int == 6 && mixed[2].get().int == 6)
        guard case .failure = mixed[1] else { return #expect(Bool(false), "a dead node has answered") }
        try await cluster.restart(1)
        #expect(try await redis.send(RedisCommand("GET", .string(keys[1]))) == .null)
        let missing = await #expect(throws: RedisError.self) {
            try await redis.call("cluster_tests_add", keys: [keys[1]], arguments: [1])
        }
        #expect(missing?.message.contains("Function not found") == true)
        let lacking = try await redis.masters(without: Self.library)
        #expect(lacking.map(\.address) == [.tcp(host: "127.0.0.1", port: cluster.nodes[1].port)])
        try await redis.load(Self.library, near: keys[1])
        #expect(try await redis.masters(without: Self.library).isEmpty)
        #expect(try await redis.call("cluster_tests_add", keys: [keys[1]], arguments: [1]).int == 1)
        await redis.close()
    }

    @Test("What waits on a master that has left is told that it may have run, and is not sent again")
    func left() async throws {
        let cluster = try await RedisCluster()
        defer { cluster.stop() }
        let replica = try await cluster.addReplica(of: 1)
        // One that the address names is kept, whatever becomes of it.
        let redis = connection(
            try RedisConfiguration(url: "redis+cluster://127.0.0.1:\(cluster.nodes[0].port)"))
        var key = "key:0"
        while try await cluster.owner(of: ClusterMap.slot(of: Array(key.utf8)[...])) != 1 { key += "0" }
        _ = try await redis.send(RedisCommand("SET", .string(key), 5))
        #expect(try await redis.send(RedisCommand("WAIT", 1, 60_000).near(key)) == .integer(1))
        try cluster.suspend(1)
        let writes = redis.writes
        let waiting = Task { [key] in
            try await redis.send(RedisCommand("INCR", .string(key)), timeout: .seconds(600))
        }
        // It is on its way to who will not answer.
        while redis.writes == writes { await Task.yield() }
        let slot = ClusterMap.slot(of: Array(key.utf8)[...])
        try await cluster.untilServed(slot, by: replica, asSeenBy: [0, 2])
        // The map that names the successor lets go of the other.
        while try await !redis.masters().contains(where: {
            $0.address == .tcp(host: "127.0.0.1", port: replica.port)
        }) {}
        #expect(try await redis.send(RedisCommand("GET", .string(key))).int == 5)
        let error = await #expect(throws: RedisError.self) { try await waiting.value }
        #expect(error?.code == .connection && error?.mayHaveRun == true, "\(error?.description ?? "")")
        #expect(try await redis.send(RedisCommand("GET", .string(key))).int == 5)
        await redis.close()
    }

    @Test("Who goes away hears whether any of its commands may have been carried out")
    func cancelled() async throws {
        let cluster = try await RedisCluster()
        defer { cluster.stop() }
        let redis = connection(try RedisConfiguration(url: cluster.url()))
        var keys: [String] = []
        for node in 0..<2 {
            var key = "key:0"
            while try await cluster.owner(of: ClusterMap.slot(of: Array(key.utf8)[...])) != node {
                key += "0"
            }
            keys.append(key)
        }
        for key in keys { _ = try await redis.send(RedisCommand("SET", .string(key), 0)) }
        // Refused by the second for as long as anybody waits.
        let slot = ClusterMap.slot(of: Array(keys[1].utf8)[...])
        _ = try await cluster.nodes[1].direct.send(RedisCommand("CLUSTER", "DELSLOTS", .int(slot)))
        let both = Task { [keys] in try await redis.send(keys.map { RedisCommand("INCR", .string($0)) }) }
        while try await redis.send(RedisCommand("GET", .string(keys[0]))).int == 0 {}
        both.cancel()
        let error = await #expect(throws: RedisError.self) { try await both.value }
        #expect(error?.code == .cancelled && error?.mayHaveRun == true)
        await redis.close()
    }

    @Test("A single server is no cluster, and says so at once")
    func noCluster() async throws {
        let server = try SecureServer()
        defer { server.stop() }
        let url = "rediss+cluster://127.0.0.1:\(server.port)?ca=\(server.path("ca.pem"))"
        let redis = connection(try RedisConfiguration(url: url))
        let error = await #expect(throws: RedisError.self) { try await redis.send(RedisCommand("GET", "x")) }
        #expect(error?.code == .configuration)
        #expect(error?.message.contains("no node of a cluster") == true)
        await redis.close()
    }
}

/// What is known of a cluster without one.
@Suite struct ClusterMapTests {
    @Test(
        "The slot of a key is that of its hash tag",
        arguments: [
            ("123456789", 12_739), ("foo", 12_182), ("{foo}bar", 12_182), ("x{foo}{bar}", 12_182),
            ("0", 13_907), ("crmm:{1}:epoch", 9_842), ("crmm:{2}:live", 5_649), ("{3}", 1_584),
        ])
    func slots(key: String, slot: Int) {
        #expect(ClusterMap.slot(of: Array(key.utf8)[...]) == slot)
    }

    @Test("An empty hash tag, or one without an end, is none")
    func noTag() {
        func slot(_ key: String) -> Int { ClusterMap.slot(of: Array(key.utf8)[...]) }
        #expect(slot("foo{}{bar}") != slot("bar"))
        #expect(slot("foo{bar") != slot("bar"))
        #expect(slot("foo{{bar}}zap") == slot("{bar"))
    }

    private let asked = RedisConfiguration.Address.tcp(host: "10.0.0.9", port: 7000)

    private func range(_ first: Int64, _ last: Int64, _ host: RedisValue, _ port: Int64) -> RedisValue {
        .array([.integer(first), .integer(last), .array([host, .integer(port), .string(Array("id".utf8))])])
    }

    @Test("A node that does not know its own name is the one that was asked")
    func names() throws {
        let map = try ClusterMap(
            .array([
                range(0, 5, .string([]), 7000), range(6, 7, .null, 7001),
                range(9, 16_383, .string(Array("b".utf8)), 7002),
            ]), from: asked)
        #expect(map.master(of: 5) == asked)
        #expect(map.master(of: 6) == .tcp(host: "10.0.0.9", port: 7001))
        #expect(map.master(of: 8) == nil)
        #expect(map.master(of: 16_383) == .tcp(host: "b", port: 7002))
    }

    @Test(
        "Slots that cannot be, and none at all, are refused",
        arguments: [
            RedisValue.array([]), .null, .array([.integer(1)]),
            .array([.array([.integer(5), .integer(4), .array([.string([97]), .integer(1)])])]),
            .array([.array([.integer(0), .integer(16_384), .array([.string([97]), .integer(1)])])]),
            .array([.array([.integer(-1), .integer(4), .array([.string([97]), .integer(1)])])]),
            .array([.array([.integer(0), .integer(4), .array([.string([97]), .integer(0)])])]),
            .array([.array([.integer(0), .integer(4), .array([.string([97])])])]),
        ])
    func garbage(reply: RedisValue) {
        #expect(throws: RedisError.self) { try ClusterMap(reply, from: asked) }
    }

    @Test("Redirections are read; what is none is none")
    func redirections() {
        func read(_ text: String) -> Redirection? { Redirection(RedisError(reply: text), from: asked) }
        #expect(read("MOVED 3999 10.0.0.1:6381") == .moved(slot: 3999, .tcp(host: "10.0.0.1", port: 6381)))
        #expect(read("MOVED 3999 ::1:6381") == .moved(slot: 3999, .tcp(host: "::1", port: 6381)))
        #expect(read("ASK 1 :6381") == .ask(.tcp(host: "10.0.0.9", port: 6381)))
        for text in [
            "MOVED 16384 a:1", "MOVED 1 a", "MOVED a:1", "ASK 1 a:0", "ASK 1 a:70000", "ERR 1 a:1", "MOVED",
        ] { #expect(read(text) == nil, "\(text)") }
    }

    private func keys(_ command: RedisCommand) -> [String] {
        command.keys.map { String(decoding: $0, as: UTF8.self) }
    }

    @Test("The keys of commands are found where each has them")
    func commandKeys() throws {
        #expect(keys(RedisCommand("GET", "a")) == ["a"])
        #expect(keys(RedisCommand("FCALL", "f", 2, "a", "b", "c")) == ["a", "b"])
        #expect(keys(RedisCommand("EVAL", "return 1", 0, "c")) == [])
        #expect(keys(RedisCommand("FCALL", "f", "x", "a")) == [])
        #expect(keys(RedisCommand("XREAD", "COUNT", 1, "STREAMS", "a", "b", "0", "0")) == ["a", "b"])
        #expect(keys(RedisCommand("BLPOP", "a", "b", 1)) == ["a", "b"])
        #expect(keys(RedisCommand("MSET", "a", 1, "b", 2)) == ["a", "b"])
        #expect(keys(RedisCommand("OBJECT", "ENCODING", "a")) == ["a"])
        #expect(keys(RedisCommand("SMOVE", "a", "b", "c")) == ["a", "b"])
        #expect(keys(RedisCommand("SCAN", 0, "MATCH", "a*")) == [])
        #expect(keys(RedisCommand("PING")) == [] && keys(RedisCommand("GET")) == [])
        #expect(keys(RedisCommand("SET", "", .bytes([13, 10]))) == [""])
        #expect(try RedisCommand("PING").slot == nil)
        #expect(try RedisCommand("SCAN", 0).near("foo").slot == 12_182)
    }
}
