import Domain
import Foundation
import Glibc
import Logging
import Redis
import TestSupport
import Testing

@testable import Streams

/// What each login may and may not do, on a server that has only these.
struct QueueUserTests {
    /// Where these users are: on one server, or on three masters.
    enum Place: CaseIterable { case server, cluster }

    /// Servers with the users, each with its name as password.
    private struct Installation {
        let url: (_ credentials: String) -> String

        private func configuration(_ user: QueueUser) throws -> RedisConfiguration {
            try RedisConfiguration(url: url("\(user.rawValue):\(user.rawValue)@"))
        }

        func connection(_ user: QueueUser) throws -> RedisConnection {
            RedisConnection(configuration: try configuration(user), logger: .quiet)
        }

        /// The queue as this user sees it.
        func queue(_ user: QueueUser) throws -> Queue {
            Queue(connection: try connection(user), keys: Keyspace(), logger: .quiet)
        }

        func blocking(_ user: QueueUser) throws -> RedisBlockingConnection {
            RedisBlockingConnection(configuration: try configuration(user), logger: .quiet)
        }
    }

    /// Runs a body on new servers whose data set a worker has begun.
    private func run(_ place: Place, _ body: (Installation, Epoch) async throws -> Void) async throws {
        switch place {
        case .server: try await runOnServer(body)
        case .cluster: try await runOnCluster(body)
        }
    }

    private func runOnCluster(_ body: (Installation, Epoch) async throws -> Void) async throws {
        let users = QueueUser.allCases.flatMap { user in
            ["--user", user.rawValue, "on", ">\(user.rawValue)", "resetchannels"]
                + user.rules().split(separator: " ").map(String.init)
        }
        let cluster = try await RedisCluster(arguments: users + ["--enable-debug-command", "yes"])
        defer { cluster.stop() }
        try await begin(Installation { cluster.url(credentials: $0) }, body)
    }

    private func runOnServer(_ body: (Installation, Epoch) async throws -> Void) async throws {
        let directory = "/tmp/crmm-users-\(UInt32.random(in: .min ... .max))"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: false)
        let users = QueueUser.allCases.map {
            "user \($0.rawValue) on >\($0.rawValue) resetchannels \($0.rules())"
        }
        let file =
            (["user default off resetpass resetkeys resetchannels -@all"] + users)
            .joined(separator: "\n") + "\n"
        try Data(file.utf8).write(to: URL(filePath: "\(directory)/users.acl"))
        let socket = "\(directory)/redis.sock"
        let server = Process()
        server.executableURL = URL(filePath: "/usr/bin/redis-server")
        server.arguments = [
            "--port", "0", "--unixsocket", socket, "--save", "", "--dir", directory, "--aclfile",
            "\(directory)/users.acl", "--enable-debug-command", "yes",
        ]
        server.standardOutput = FileHandle.nullDevice
        try server.run()
        defer {
            kill(server.processIdentifier, SIGKILL)
            // What is left of a failed test does no harm.
            try? FileManager.default.removeItem(atPath: directory)
        }
        try await begin(Installation { "unix://\($0)\(socket)" }, body)
    }

    private func begin(
        _ installation: Installation, _ body: (Installation, Epoch) async throws -> Void
    ) async throws {
        let loader = try installation.connection(.loader)
        try await installation.queue(.worker).load(using: loader)
        #expect(try await Queue.serversWithoutLibrary(loader).isEmpty)
        await loader.close()
        let epoch = Epoch.fresh()
        try await installation.queue(.worker).rebuild(epoch: epoch, entitlements: [], running: [])
        try await body(installation, epoch)
    }

    @Test(
        "The API's login admits, cancels, looks for presences and writes to gateways",
        arguments: Place.allCases)
    func api(_ place: Place) async throws {
        try await run(place) { installation, epoch in
            let queue = try installation.queue(.api)
            let (organization, gateway) = (Draw.organization(), Draw.gateway())
            let entries = Draw.entries(3)
            #expect(try await queue.epoch() == epoch)
            let admitted = try await queue.enqueue(
                entries, in: organization.queue(), epoch: epoch)
            #expect(admitted == .admitted(3))
            try await queue.mark([organization.queue()], epoch: epoch)
            _ = try await queue.cancel([(organization, entries[0].run)], epoch: epoch)
            #expect(try await queue.presence(of: [entries[0].device]) == [nil])
            #expect(try await queue.alive([gateway]).isEmpty)
            #expect(try await queue.deliver([Letter(gateway: gateway, payload: [1])]) == [true])
        }
    }

    @Test(
        "A gateway's login tells presence, beats, reads its inbox and settles",
        arguments: Place.allCases)
    func gateway(_ place: Place) async throws {
        try await run(place) { installation, epoch in
            let queue = try installation.queue(.gateway)
            let (organization, gateway) = (Draw.organization(), Draw.gateway())
            let entry = Draw.entries(1)[0]
            let session = try await queue.present([entry.device], gateway: gateway, epoch: epoch)
            #expect(session.count == 1)
            try await queue.beat(gateway: gateway, milliseconds: 60_000)
            _ = try await queue.deliver([Letter(gateway: gateway, payload: [7])])
            let inbox = try installation.blocking(.gateway)
            let letters = try await queue.inbox(
                gateway: gateway, after: "0", count: 10, wait: .milliseconds(10), on: inbox)
            #expect(letters.map(\.payload) == [[7]])
            try await queue.discard(gateway: gateway, letters.map(\.id))
            let settled = Settled(
                organization: organization, run: entry.run, generation: 1, device: entry.device)
            _ = try await queue.settle([settled], epoch: epoch)
            try await queue.mark([organization.queue()], epoch: epoch)
            await inbox.close()
        }
    }

    @Test(
        "The worker's login claims, ends claims, sweeps, refills, drains and asks who the server is",
        arguments: Place.allCases)
    func worker(_ place: Place) async throws {
        try await run(place) { installation, epoch in
            let queue = try installation.queue(.worker)
            let organization = Draw.organization()
            _ = try await queue.enqueue(
                Draw.entries(4), in: organization.queue(), epoch: epoch)
            let bell = try installation.blocking(.worker)
            #expect(try await queue.waitForBell(on: bell))
            let claims = try await queue.claim(
                owner: "w", limit: 3, leaseMilliseconds: 60_000, epoch: epoch
            ).items
            #expect(claims.count == 3)
            try await queue.renew(owner: "w", leaseMilliseconds: 60_000, epoch: epoch)
            let acknowledged = try await queue.acknowledge(
                dispatched: [claims[0]], dropped: [], deadlineMilliseconds: 1, epoch: epoch)
            #expect(acknowledged.started == 1)
            try await queue.release([claims[1]], delayMilliseconds: 0, epoch: epoch)
            #expect(try await queue.reclaim(owner: "w", epoch: epoch).count == 1)
            _ = try await queue.reclaim(now: 10, epoch: epoch)
            _ = try await queue.sweep(epoch: epoch)
            _ = try await queue.settle([claims[0].settled], epoch: epoch)
            #expect(try await queue.drain(gateway: Draw.gateway()).isEmpty)
            #expect(try await queue.alive([Draw.gateway()]).isEmpty)
            let connection = try installation.connection(.worker)
            _ = try await connection.send(RedisCommand("INFO", "server", "replication"))
            for master in try await connection.masters() {
                _ = try await master.send(RedisCommand("INFO", "server", "memory", "persistence"))
            }
            await bell.close()
        }
    }

    @Test(
        "Nobody reaches other keys, code, settings, logins, or the data as a whole",
        arguments: Place.allCases)
    func refusals(_ place: Place) async throws {
        let forbidden: [[RedisArgument]] = [
            ["FLUSHALL"], ["FLUSHDB"], ["SWAPDB", 0, 1], ["KEYS", "*"], ["CONFIG", "GET", "dir"],
            ["CONFIG", "SET", "dir", "/"], ["SCRIPT", "FLUSH"], ["EVAL", "return 1", 0], ["DEBUG", "JMAP"],
            ["FUNCTION", "FLUSH"], ["FUNCTION", "DELETE", "x"], ["FUNCTION", "DUMP"], ["ACL", "LIST"],
            ["ACL", "SETUSER", "x"], ["MONITOR"], ["SHUTDOWN"], ["SAVE"], ["BGREWRITEAOF"],
            ["REPLICAOF", "NO", "ONE"], ["FAILOVER"], ["MODULE", "LIST"], ["CLIENT", "LIST"],
            ["CLIENT", "KILL", "TYPE", "normal"], ["SLOWLOG", "GET"], ["LATENCY", "RESET"],
            ["MIGRATE", "h", 1, "k", 0, 1], ["SUBSCRIBE", "c"], ["PUBLISH", "c", "x"], ["RANDOMKEY"],
            ["CLUSTER", "RESET"], ["GET", "other"], ["SET", "other", 1], ["GET", "crmm"],
            ["DEL", "crmm:other"], ["SORT", "crmm:{0}:live"],
        ]
        let ofRole: [QueueUser: [[RedisArgument]]] = [
            .api: [
                ["SCAN", 0], ["INFO"], ["FUNCTION", "LOAD", "x"], ["SET", "crmm:gateway:{1}:alive", 1],
                ["BLPOP", "crmm:{0}:bell", "0.01"],
            ],
            .gateway: [["SCAN", 0], ["INFO"], ["FUNCTION", "LOAD", "x"]],
            .worker: [["FUNCTION", "LOAD", "x"], ["SET", "crmm:gateway:{1}:alive", 1]],
            .loader: [
                ["SCAN", 0], ["INFO"], ["GET", "crmm:{0}:epoch"], ["FCALL", "x", 0],
                ["SET", "crmm:{0}:x", 1],
            ],
        ]
        try await run(place) { installation, _ in
            for user in QueueUser.allCases {
                let connection = try installation.connection(user)
                for words in forbidden + (ofRole[user] ?? []) {
                    guard case .string(let name) = words[0] else { continue }
                    let command = RedisCommand(name, arguments: Array(words.dropFirst()))
                    let error = await #expect(throws: RedisError.self, "\(user) \(words)") {
                        try await connection.send(command)
                    }
                    #expect(error?.serverCode == "NOPERM", "\(user) \(words): \(error?.message ?? "")")
                }
                await connection.close()
            }
        }
    }

    @Test(
        "Where only these users are, replicas follow, sentinels make one the master, and neither reads keys")
    func replication() async throws {
        func user(_ name: String, _ rules: String) -> [String] {
            ["--user", name, "on", ">\(name)"] + rules.split(separator: " ").map(String.init)
        }
        let servers = try await RedisFailover(
            users: RedisFailover.Users(
                arguments: ["--user", "default", "off"]
                    + QueueUser.allCases.flatMap { user($0.rawValue, "resetchannels " + $0.rules()) }
                    + ServerUser.allCases.flatMap { user($0.rawValue, $0.rules) },
                replica: ServerUser.replica.rawValue, sentinel: ServerUser.sentinel.rawValue))
        defer { servers.stop() }
        let installation = Installation { servers.url(credentials: $0) }
        try await begin(installation) { installation, epoch in
            let queue = try installation.queue(.worker)
            let organization = Draw.organization()
            _ = try await queue.enqueue(Draw.entries(3), in: organization.queue(), epoch: epoch)
            let worker = try installation.connection(.worker)
            #expect(
                try await worker.send(RedisCommand("INFO", "replication")).text?.contains("state=online")
                    == true)
            for user in ServerUser.allCases {
                let other = RedisConnection(
                    configuration: try RedisConfiguration(
                        url: servers.masterURL(credentials: "\(user.rawValue):\(user.rawValue)@")),
                    logger: .quiet)
                for words: [RedisArgument] in [["GET", "crmm:{0}:epoch"], ["SCAN", 0], ["FLUSHALL"]] {
                    guard case .string(let name) = words[0] else { continue }
                    let error = await #expect(throws: RedisError.self) {
                        try await other.send(RedisCommand(name, arguments: Array(words.dropFirst())))
                    }
                    #expect(error?.serverCode == "NOPERM", "\(user): \(error?.message ?? "")")
                }
                await other.close()
            }
            func server() async -> String? {
                // While there is no master nobody answers.
                try? await worker.send(RedisCommand("INFO", "server")).text?
                    .split(separator: "\r\n").first { $0.hasPrefix("run_id:") }.map(String.init)
            }
            let before = try #require(await server())
            servers.killMaster()
            var after = await server()
            while after == nil || after == before { after = await server() }
            #expect(try await queue.epoch() == epoch)
            await worker.close()
        }
    }

    @Test("A line of the file of users holds the hash and not the password")
    func line() {
        let line = QueueUser.loader.line(passwordHash: "ab12")
        #expect(line.hasPrefix("user crmm-loader on #ab12 resetchannels -@all +function|load"))
    }
}
