import TestSupport
import Testing

@testable import Redis

/// TLS where one address leads to many servers: to sentinels and the master that they name, and to the nodes
/// of a cluster.
@Suite(.serialized) struct SecureDeploymentTests {
    /// The error of a first command, which must come long before the command's own time limit.
    private func refusal(_ url: String) async throws -> RedisError? {
        let redis = connection(try RedisConfiguration(url: url))
        let error = await #expect(throws: RedisError.self) {
            try await redis.send(RedisCommand("GET", "app:1"), timeout: .seconds(600))
        }
        await redis.close()
        return error
    }

    private func insist(_ redis: RedisConnection, _ command: RedisCommand) async throws -> RedisValue {
        while true {
            do {
                return try await redis.send(command)
            } catch let error as RedisError where error.isTransient {
                // There is a while without a master.
            }
        }
    }

    // MARK: Sentinels

    private func failover(_ files: SecureServer) async throws -> RedisFailover {
        try await RedisFailover(
            sentinelPassword: "hunter2",
            tls: RedisFailover.TLS(arguments: files.arguments(), parameters: "ca=\(files.path("ca.pem"))"))
    }

    @Test("Sentinels are asked under TLS, and so are the master and its successor")
    func sentinels() async throws {
        let files = try SecureServer()
        defer { files.stop() }
        let servers = try await failover(files)
        defer { servers.stop() }
        let ca = "ca=\(files.path("ca.pem"))"
        let redis = connection(
            try RedisConfiguration(url: servers.url(parameters: "?sentinelPassword=hunter2&\(ca)")))
        _ = try await redis.send(RedisCommand("SET", "kept", 7))
        #expect(try await redis.send(RedisCommand("WAIT", 1, 60_000)) == .integer(1))
        let run = try await redis.send(RedisCommand("INFO", "server")).text
        servers.killFirstSentinel()
        servers.killMaster()
        #expect(try await insist(redis, RedisCommand("GET", "kept")).int == 7)
        #expect(try await redis.send(RedisCommand("INFO", "server")).text != run)
        await redis.close()
    }

    @Test("What a sentinel shows is verified, and its password is asked for, before anything is believed")
    func sentinelRefusals() async throws {
        let files = try SecureServer()
        defer { files.stop() }
        let servers = try await failover(files)
        defer { servers.stop() }
        let (ca, stranger) = ("ca=\(files.path("ca.pem"))", "ca=\(files.path("stranger.pem"))")
        let login = "?sentinelPassword=hunter2"
        let untrusted = try await refusal(servers.url(parameters: "\(login)&\(stranger)"))
        #expect(untrusted?.code == .untrusted && untrusted?.mayHaveRun == false)
        let name = try await refusal(servers.url(parameters: "\(login)&\(ca)&serverName=other.test"))
        #expect(name?.code == .untrusted)
        #expect(try await refusal(servers.url(parameters: "?\(ca)"))?.serverCode == "NOAUTH")
        // In clear to a port of TLS: nobody answers in words.
        let clear = connection(
            try RedisConfiguration(
                url: servers.url(parameters: login).replacing("rediss+", with: "redis+")))
        let error = await #expect(throws: RedisError.self) {
            try await clear.send(RedisCommand("PING"), timeout: .seconds(1))
        }
        #expect(error?.isTransient == true && error?.mayHaveRun == false)
        await clear.close()
    }

    // MARK: Cluster

    private func cluster(_ files: SecureServer) async throws -> RedisCluster {
        let user = ["--user", "rmm", "on", ">secret", "~app:*", "+@all"]
        return try await RedisCluster(
            arguments: ["--tls-cluster", "yes", "--tls-replication", "yes"] + files.arguments() + user,
            isSecure: true)
    }

    private func url(
        _ cluster: RedisCluster, _ files: SecureServer, _ login: String, _ parameters: String = "ca=ca.pem"
    ) -> String {
        let parameters = parameters.replacing("ca=", with: "ca=\(files.path(""))")
        return cluster.url(scheme: "rediss+cluster", credentials: login, parameters: "?\(parameters)")
    }

    @Test("TLS and a login hold for all nodes, for those that come back, and while a slot moves")
    func nodes() async throws {
        let files = try SecureServer()
        defer { files.stop() }
        let cluster = try await cluster(files)
        defer { cluster.stop() }
        let redis = connection(try RedisConfiguration(url: url(cluster, files, "rmm:secret@")))
        let names = (0..<60).map { "app:\($0)" }
        for result in try await redis.send(names.map { RedisCommand("SET", .string($0), .string($0)) }) {
            _ = try result.get()
        }
        var counts: [Int] = []
        for node in cluster.nodes {
            counts.append(try await node.direct.send(RedisCommand("DBSIZE")).int ?? 0)
        }
        #expect(counts.reduce(0, +) == 60 && !counts.contains(0))
        let slot = ClusterMap.slot(of: Array("app:7".utf8)[...])
        let source = try await cluster.owner(of: slot)
        let target = (source + 1) % 3
        try await cluster.beginMove(of: slot, from: source, to: target)
        while try await cluster.moveKeys(of: slot, from: source, to: target) > 0 {}
        #expect(try await redis.send(RedisCommand("GET", "app:7")).text == "app:7")
        #expect(redis.redirections.asked > 0)
        try await cluster.endMove(of: slot, from: source, to: target)
        #expect(try await redis.send(RedisCommand("GET", "app:7")).text == "app:7")
        cluster.end(target)
        try await cluster.restart(target, isSecure: true)
        #expect(try await insist(redis, RedisCommand("GET", "app:7")) == .null)
        let refused = await #expect(throws: RedisError.self) {
            try await redis.send(RedisCommand("SET", "other", 1))
        }
        #expect(refused?.serverCode == "NOPERM")
        await redis.close()
    }

    @Test("A node whose certificate is not believed, and a login that it refuses, are told at once")
    func clusterRefusals() async throws {
        let files = try SecureServer()
        defer { files.stop() }
        let cluster = try await cluster(files)
        defer { cluster.stop() }
        #expect(try await refusal(url(cluster, files, "rmm:guess@"))?.serverCode == "WRONGPASS")
        let stranger = try await refusal(url(cluster, files, "rmm:secret@", "ca=stranger.pem"))
        #expect(stranger?.code == .untrusted)
        let other = try await refusal(url(cluster, files, "rmm:secret@", "ca=ca.pem&serverName=other.test"))
        #expect(other?.code == .untrusted)
    }
}
