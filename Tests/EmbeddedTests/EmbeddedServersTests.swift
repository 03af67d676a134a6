import Embedded
import Glibc
import Process
import Testing

/// One after the other: each test starts servers, and two cores are soon full.
@Suite(.serialized, PreparedData()) struct EmbeddedServersTests {
    @Test("the second start finds the data, the logins and the secrets of the first")
    func twoStarts() async throws {
        let scratch = try Scratch()
        let options = EmbeddedOptions(dataDirectory: scratch.data)
        let first = try await EmbeddedServers.start(options, logger: quiet)
        let url = try first.postgresSuperuserURL
        let made = "CREATE TABLE kept (n int); INSERT INTO kept VALUES (42); SHOW fsync; SHOW max_connections"
        #expect(try await query(url, made) == "on\n200\n")
        #expect(try await redis(first, as: .admin, "SET crmm:kept 7\n") == ["OK"])
        let secret = try first.secret("made-once")
        await first.stop()
        #expect(try !scratch.serverRuns())
        #expect(!fileExists(first.redisSocketPath))
        #expect(!fileExists("\(scratch.data)/postgres/postmaster.pid"), "a clean stop leaves no lock")

        let second = try await EmbeddedServers.start(options, logger: quiet)
        #expect(try second.postgresSuperuserURL == url)
        #expect(try await query(url, "SELECT n FROM kept") == "42\n")
        #expect(try await redis(second, as: .admin, "GET crmm:kept\n") == ["7"])
        #expect(try second.secret("made-once") == secret && secret.utf8.count == 43)
        await second.stop()
        await second.stop()
        var ended = second.onUnexpectedExit.makeAsyncIterator()
        #expect(await ended.next() == nil, "a stop is no unexpected exit")
    }

    @Test("logins, files and sockets are closed to others")
    func isolation() async throws {
        let scratch = try await Scratch.prepared()
        let servers = try await EmbeddedServers.start(scratch.options, logger: quiet)
        let noPassword = "postgresql://crmm_owner@/cloudrmm?host=\(servers.postgresSocketDirectory)"
        #expect(try await query(noPassword, "SELECT 1").contains("password"))
        let wrong = servers.postgresURL(user: "crmm_owner", password: "p@ss/wörd")
        let refusal = try await query(wrong, "SELECT 1")
        #expect(refusal.contains("password authentication failed"), "\(refusal)")
        #expect(
            try await output("/usr/bin/redis-cli", ["-s", servers.redisSocketPath, "PING"]).contains("NOAUTH")
        )
        for path in [servers.postgresSocketDirectory, "\(scratch.data)/secrets", "\(scratch.data)/redis"] {
            #expect(FileStatus(path)?.mode == 0o700, "\(path)")
        }
        for path in ["redis.conf", "secrets/redis-admin", "secrets/postgres-crmm-owner", "logs/postgres.log"]
        {
            #expect(FileStatus("\(scratch.data)/\(path)")?.mode == 0o600, "\(path)")
        }
        let runsAsRoot =
            FileStatus("\(scratch.data)/postgres")?.userID == 0
            || FileStatus("\(scratch.data)/redis")?.userID == 0
        #expect(!runsAsRoot)
        await servers.stop()
    }

    @Test("the runtime's login calls functions but changes neither code nor server; the loader only loads")
    func accessControl() async throws {
        let scratch = try await Scratch.prepared()
        let servers = try await EmbeddedServers.start(scratch.options, logger: quiet)
        let library =
            "\"#!lua name=t\\nredis.register_function('t_get', "
            + "function(k) return redis.call('GET', k[1]) end)\""
        #expect(try await redis(servers, as: .loader, "FUNCTION LOAD REPLACE \(library)\n") == ["t"])
        #expect(
            try await redis(servers, as: .runtime, "SET crmm:a 5\nFCALL t_get 1 crmm:a\n") == ["OK", "5"])
        let refusedToRuntime = [
            "FUNCTION LOAD \(library)", "FUNCTION DELETE t", "FUNCTION FLUSH", "EVAL 'return 1' 0",
            "EVALSHA x 0",
            "SCRIPT FLUSH", "CONFIG GET dir", "REPLICAOF NO ONE", "SLAVEOF NO ONE", "ACL LIST",
            "MODULE LIST", "SAVE", "BGSAVE", "FLUSHALL", "FLUSHDB", "MONITOR", "SHUTDOWN NOSAVE",
            "SET other:a 1", "FCALL t_get 1 other:a", "PUBLISH other 1",
        ]
        let replies = try await redis(servers, as: .runtime, refusedToRuntime.map { $0 + "\n" }.joined())
        #expect(replies.count == refusedToRuntime.count)
        for (command, reply) in zip(refusedToRuntime, replies) {
            #expect(reply.hasPrefix("NOPERM"), "\(command): \(reply)")
        }
        let refusedToLoader = [
            "GET crmm:a", "FCALL t_get 1 crmm:a", "FUNCTION FLUSH", "CONFIG GET dir", "ACL LIST",
        ]
        for reply in try await redis(servers, as: .loader, refusedToLoader.map { $0 + "\n" }.joined()) {
            #expect(reply.hasPrefix("NOPERM"), "\(reply)")
        }
        await servers.stop()
    }

    @Test("a second instance on the data directory is refused and told the pid")
    func twoInstances() async throws {
        let scratch = try await Scratch.prepared()
        let servers = try await EmbeddedServers.start(scratch.options, logger: quiet)
        let error = await #expect(throws: EmbeddedError.self) {
            try await EmbeddedServers.start(scratch.options, logger: quiet)
        }
        #expect(error?.code == .inUse)
        #expect(error?.description.contains("process \(getpid())") == true)
        #expect(try await query(servers.postgresSuperuserURL, "SELECT 1") == "1\n", "the first goes on")
        await servers.stop()
    }

    @Test("when the parent is killed both servers end by themselves and the next start goes on with the data")
    func parentKilled() async throws {
        let scratch = try await Scratch.prepared()
        let probe = try await Probe(scratch)
        #expect(
            try await query(probe.postgresURL, "CREATE TABLE kept AS SELECT 42 AS n; SELECT n FROM kept")
                == "42\n")
        try probe.child.signal(SIGKILL)
        #expect(await probe.child.wait() == .signaled(SIGKILL))
        let servers = try await EmbeddedServers.start(scratch.options, logger: quiet)
        #expect(try await query(servers.postgresSuperuserURL, "SELECT n FROM kept") == "42\n")
        await servers.stop()
        #expect(try !scratch.serverRuns())
    }

    @Test("locks left by a kill -9 of parent and servers alike are stale")
    func allKilled() async throws {
        let scratch = try await Scratch.prepared()
        let probe = try await Probe(scratch)
        #expect(
            try await query(probe.postgresURL, "CREATE TABLE kept AS SELECT 42 AS n; SELECT n FROM kept")
                == "42\n")
        var tree = ProcessTree(root: probe.child.pid, marker: nil)
        let isGone = tree.kill()
        #expect(isGone)
        _ = await probe.child.wait()
        #expect(fileExists("\(scratch.data)/postgres/postmaster.pid"), "this is the stale lock")
        let servers = try await EmbeddedServers.start(scratch.options, logger: quiet)
        #expect(try await query(servers.postgresSuperuserURL, "SELECT n FROM kept") == "42\n")
        await servers.stop()
    }

    @Test("an ordinary user starts and stops the servers as itself", .enabled(if: geteuid() == 0))
    func ordinaryUser() async throws {
        let scratch = try Scratch()
        try Directory.make(scratch.data)
        try FileStatus.setOwner(scratch.data, userID: 65534, groupID: 65534)
        let probe = try await Probe(scratch, user: 65534)
        #expect(FileStatus("\(scratch.data)/postgres")?.userID == 65534)
        #expect(FileStatus("\(scratch.data)/redis")?.userID == 65534)
        probe.child.closeStdin()
        #expect(await probe.child.wait() == .exited(0))
        #expect(try !scratch.serverRuns())
    }

    @Test("a server that dies is reported")
    func unexpectedExit() async throws {
        let scratch = try await Scratch.prepared()
        let servers = try await EmbeddedServers.start(scratch.options, logger: quiet)
        _ = try await redis(servers, as: .admin, "SHUTDOWN NOSAVE\n")
        var exits = servers.onUnexpectedExit.makeAsyncIterator()
        let exit = await exits.next()
        #expect(exit?.server == "Redis" && exit?.exit == .exited(0))
        await servers.stop()
    }

    @Test("where one server cannot start the other is stopped and the error says why")
    func oneFails() async throws {
        let scratch = try await Scratch.prepared()
        try DurableFile.write(Array("99\n".utf8), to: "\(scratch.data)/postgres/PG_VERSION", mode: 0o644)
        let error = await #expect(throws: EmbeddedError.self) {
            try await EmbeddedServers.start(scratch.options, logger: quiet)
        }
        #expect(error?.code == .start)
        #expect(error?.message.contains("version 99") == true, "\(error?.message ?? "")")
        #expect(try !scratch.serverRuns())
    }

    @Test("a data directory too long for sockets gets a short run directory of its own")
    func longPath() async throws {
        let scratch = try await Scratch.prepared()
        let deep = "\(scratch.path)/" + String(repeating: "long-", count: 20)
        let options = EmbeddedOptions(dataDirectory: deep, durable: false)
        try renameFile(scratch.data, to: deep)
        let servers = try await EmbeddedServers.start(options, logger: quiet)
        #expect(servers.redisSocketPath.hasPrefix("/tmp/crmm-"))
        await servers.stop()
        #expect(!fileExists(Directory.parent(of: servers.postgresSocketDirectory)))
    }
}

@Suite struct EmbeddedRefusalTests {
    @Test("a parent directory closed to the servers' user is named", .enabled(if: geteuid() == 0))
    func closedParent() async throws {
        let scratch = try Scratch()
        try FileStatus.setMode(scratch.path, 0o700)
        let error = await #expect(throws: EmbeddedError.self) {
            try await EmbeddedServers.start(scratch.options, logger: quiet)
        }
        #expect(error?.code == .directory)
        #expect(error?.message.contains("cannot enter \(scratch.path) on the way") == true)
    }

    @Test("a directory that others may write, a relative one and a socket path too long are refused")
    func directories() async throws {
        let scratch = try Scratch()
        try Directory.make(scratch.data, mode: 0o777)
        var long = scratch.options
        long.dataDirectory = "\(scratch.path)/other"
        long.runDirectory = "/tmp/" + String(repeating: "x", count: 76)
        for options in [scratch.options, EmbeddedOptions(dataDirectory: "relative/data"), long] {
            let error = await #expect(throws: EmbeddedError.self) {
                try await EmbeddedServers.start(options, logger: quiet)
            }
            #expect(error?.code == .directory)
        }
    }
}
