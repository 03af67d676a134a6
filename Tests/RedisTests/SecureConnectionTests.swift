import Foundation
import Testing
import Trust

@testable import Redis

/// Connections under TLS to real servers.
struct SecureConnectionTests {
    /// The error of a first command, which must come long before the command's own time limit.
    private func refusal(_ connection: RedisConnection) async -> RedisError? {
        let error = await #expect(throws: RedisError.self) {
            try await connection.send(RedisCommand("PING"), timeout: .seconds(600))
        }
        await connection.close()
        return error
    }

    @Test("A server of a believed authority is reached, and many large commands and replies pass")
    func traffic() async throws {
        let server = try SecureServer()
        defer { server.stop() }
        let redis = try server.connection()
        let value = [UInt8](repeating: 7, count: 100_000)
        let writes = (0..<60).map { RedisCommand("SET", .string("key:\($0)"), .bytes(value + [UInt8($0)])) }
        for result in try await redis.send(writes) { #expect(try result.get() == .status("OK")) }
        let reads = (0..<60).map { RedisCommand("GET", .string("key:\($0)")) }
        for (index, result) in try await redis.send(reads).enumerated() {
            #expect(try result.get() == .string(value + [UInt8(index)]))
        }
        try await withThrowingTaskGroup(of: Void.self) { group in
            for index in 0..<500 {
                group.addTask {
                    let echo = try await redis.send(RedisCommand("ECHO", .string("\(index)")))
                    #expect(echo.text == "\(index)")
                }
            }
            try await group.waitForAll()
        }
        #expect(redis.generation == 1)
        await redis.close()
    }

    @Test("The certificate must carry the host's name, or the one that the address says")
    func names() async throws {
        let server = try SecureServer(names: ["redis.test"], addresses: [])
        defer { server.stop() }
        let ca = "ca=\(server.path("ca.pem"))"
        #expect(await refusal(try server.connection())?.code == .untrusted)
        #expect(await refusal(try server.connection("\(ca)&serverName=other.test"))?.code == .untrusted)
        let redis = try server.connection("\(ca)&serverName=redis.test")
        #expect(try await redis.send(RedisCommand("PING")) == .status("PONG"))
        await redis.close()
    }

    @Test("A certificate that does not say what it is for is taken, as those of Redis are often made")
    func plainCertificate() async throws {
        let files = try ScratchFiles()
        let tool = Process()
        tool.executableURL = URL(filePath: "/usr/bin/openssl")
        tool.arguments = [
            "req", "-x509", "-newkey", "rsa:2048", "-nodes", "-days", "1", "-subj", "/CN=redis", "-addext",
            "subjectAltName=IP:127.0.0.1", "-keyout", files.path("key"), "-out", files.path("certificate"),
        ]
        tool.standardError = FileHandle.nullDevice
        try tool.run()
        tool.waitUntilExit()
        let own = try (
            certificate: String(contentsOfFile: files.path("certificate"), encoding: .utf8),
            key: String(contentsOfFile: files.path("key"), encoding: .utf8)
        )
        let server = try SecureServer(selfSigned: own)
        defer { server.stop() }
        let redis = try server.connection("ca=\(files.path("certificate"))")
        #expect(try await redis.send(RedisCommand("PING")) == .status("PONG"))
        await redis.close()
        #expect(await refusal(try server.connection())?.code == .untrusted)
    }

    @Test("A server of another authority is refused at once, as is any private one without an authority")
    func authorities() async throws {
        let server = try SecureServer()
        defer { server.stop() }
        let strange = await refusal(
            try server.connection("ca=\(server.path("stranger.pem"))", user: "rmm:hunter2"))
        #expect(strange?.code == .untrusted)
        #expect(strange?.isTransient == false && strange?.mayHaveRun == false)
        #expect(strange?.message.contains("certificate is not accepted") == true, "\(strange?.message ?? "")")
        #expect(strange?.description.contains("hunter2") == false)
        #expect(await refusal(try server.connection("serverName=127.0.0.1"))?.code == .untrusted)
    }

    @Test("Files are read for each connection: one that is mended needs no restart")
    func mendedFile() async throws {
        let server = try SecureServer()
        defer { server.stop() }
        let path = try server.write("changing.pem", server.stranger.certificate.pem)
        let redis = try server.connection("ca=\(path)")
        let error = await #expect(throws: RedisError.self) { try await redis.send(RedisCommand("PING")) }
        #expect(error?.code == .untrusted)
        _ = try server.write("changing.pem", server.authority.certificate.pem)
        while true {
            do {
                #expect(try await redis.send(RedisCommand("PING")) == .status("PONG"))
                break
            } catch let error as RedisError where error.code == .untrusted {
                // Refused before the file was mended: the next attempt reads it.
            }
        }
        await redis.close()
    }

    @Test("A server that asks for a certificate takes one of its authority, and no other and none")
    func mutual() async throws {
        let server = try SecureServer(asksCertificate: true)
        defer { server.stop() }
        let ca = "ca=\(server.path("ca.pem"))"
        let redis = try server.connection("\(ca)&\(server.clientParameters(of: server.authority))")
        #expect(try await redis.send(RedisCommand("PING")) == .status("PONG"))
        await redis.close()
        let strange = try server.connection("\(ca)&\(server.clientParameters(of: server.stranger))")
        for redis in [strange, try server.connection()] {
            var error: RedisError?
            repeat {
                error = await #expect(throws: RedisError.self) {
                    try await redis.send(RedisCommand("PING"), timeout: .seconds(1))
                }
            } while error?.message.contains("still connecting") == true
            // The alert may be lost with the end of the connection; then the message names what may be wrong.
            #expect(error?.message.contains("certificate") == true, "\(error?.message ?? "")")
            #expect(error?.mayHaveRun == false)
            await redis.close()
        }
    }

    @Test("TLS 1.2 is spoken with a server that knows no other")
    func older() async throws {
        let server = try SecureServer(arguments: ["--tls-protocols", "TLSv1.2"])
        defer { server.stop() }
        let redis = try server.connection()
        #expect(try await redis.send(RedisCommand("PING")) == .status("PONG"))
        await redis.close()
    }

    @Test("A server without TLS is told from one whose certificate is wrong")
    func noTLS() async throws {
        let port = freePort()
        let server = try PrivateServer(arguments: ["--port", "\(port)", "--bind", "127.0.0.1"])
        defer { server.stop() }
        let redis = try server.connection("redis://127.0.0.1:\(port)")
        #expect(try await redis.send(RedisCommand("PING")) == .status("PONG"))
        // It takes the handshake for the beginning of a long command, and is silent.
        var configuration = try RedisConfiguration(url: "rediss://127.0.0.1:\(port)")
        configuration.connectTimeout = .milliseconds(50)
        let secure = RedisConnection(configuration: configuration, logger: .quiet)
        var error: RedisError?
        repeat {
            error = await #expect(throws: RedisError.self) {
                try await secure.send(RedisCommand("PING"), timeout: .milliseconds(200))
            }
        } while error?.message.contains("is TLS spoken there?") != true
        #expect(error?.mayHaveRun == false)
        await secure.close()
        await redis.close()
    }

    @Test("A client without TLS learns that the server may want it")
    func clearToTLS() async throws {
        let server = try SecureServer()
        defer { server.stop() }
        let redis = try RedisConnection(
            configuration: RedisConfiguration(url: "redis://127.0.0.1:\(server.port)"), logger: .quiet)
        let error = await #expect(throws: RedisError.self) { try await redis.send(RedisCommand("PING")) }
        #expect(error?.message.contains("rediss://") == true, "\(error?.message ?? "")")
        await redis.close()
    }

    @Test("A connection that the server ends is made anew, with TLS and login")
    func reconnection() async throws {
        let server = try SecureServer(arguments: ["--user", "rmm", "on", ">pw", "~*", "&*", "+@all"])
        defer { server.stop() }
        let redis = try server.connection(user: "rmm:pw", path: "/3")
        #expect(try await redis.send(RedisCommand("PING")) == .status("PONG"))
        let other = try server.connection(user: "rmm:pw")
        _ = try await other.send(RedisCommand("CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes"))
        while redis.generation < 2 { await Task.yield() }
        let info = try await redis.send(RedisCommand("CLIENT", "INFO")).text ?? ""
        #expect(info.contains("user=rmm") && info.contains("db=3"), "\(info)")
        await redis.close()
        await other.close()
    }

    @Test("A blocking command waits under TLS, and its caller's end ends it")
    func blocking() async throws {
        let server = try SecureServer()
        defer { server.stop() }
        let configuration = try RedisConfiguration(url: server.url())
        let blocking = RedisBlockingConnection(configuration: configuration, logger: .quiet)
        let redis = try server.connection()
        let waiter = Task { try await blocking.send(RedisCommand("BLPOP", "list", 0), timeout: .seconds(60)) }
        func blocked() async throws -> Int? {
            let info = try await redis.send(RedisCommand("INFO", "clients")).text ?? ""
            return info.split(whereSeparator: \.isNewline)
                .first { $0.hasPrefix("blocked_clients:") }.flatMap { Int($0.dropFirst(16)) }
        }
        while try await blocked() != 1 {}
        _ = try await redis.send(RedisCommand("RPUSH", "list", "x"))
        #expect(try await waiter.value.array?.last?.text == "x")
        let abandoned = Task {
            try await blocking.send(RedisCommand("BLPOP", "list", 0), timeout: .seconds(60))
        }
        while try await blocked() != 1 {}
        abandoned.cancel()
        await #expect(throws: RedisError.self) { try await abandoned.value }
        while try await blocked() != 0 {}
        await blocking.close()
        await redis.close()
    }
}

/// What a server refuses of a login, told at once and without secrets.
struct LoginRefusalTests {
    private func refusal(user: String, path: String = "", arguments: [String]) async throws -> RedisError? {
        let port = freePort()
        let server = try PrivateServer(
            arguments: ["--port", "\(port)", "--bind", "127.0.0.1"] + arguments)
        defer { server.stop() }
        let redis = try server.connection("redis://\(user)@127.0.0.1:\(port)\(path)")
        let error = await #expect(throws: RedisError.self) {
            try await redis.send(RedisCommand("GET", "secret"), timeout: .seconds(600))
        }
        await redis.close()
        return error
    }

    private static let user = ["--user", "rmm", "on", ">hunter2", "~crmm:*", "&*", "+@all"]

    @Test("A wrong password and an unknown user are refused at once")
    func password() async throws {
        for user in ["rmm:guess5", "nobody:guess5"] {
            let error = try await refusal(user: user, arguments: Self.user)
            #expect(error?.serverCode == "WRONGPASS")
            #expect(error?.description.contains("guess5") == false)
        }
        #expect(
            try await refusal(user: ":guess5", arguments: ["--requirepass", "hunter2"])?.serverCode
                == "WRONGPASS")
    }

    @Test("A database that there is not, or that may not be selected, is named as the reason")
    func database() async throws {
        let missing = try await refusal(user: "rmm:hunter2", path: "/16", arguments: Self.user)
        #expect(missing?.message.hasPrefix("the database of the address is refused: ERR") == true)
        let forbidden = try await refusal(
            user: "rmm:hunter2", path: "/1", arguments: Self.user + ["-select"])
        #expect(forbidden?.serverCode == "NOPERM")
        #expect(forbidden?.message.hasPrefix("the database of the address is refused") == true)
        #expect(forbidden?.isTransient == false)
    }

    @Test("What the user may not do is refused by name, and the connection stays")
    func permission() async throws {
        let error = try await refusal(user: "rmm:hunter2", arguments: Self.user)
        #expect(error?.serverCode == "NOPERM" && error?.mayHaveRun == false)
    }
}
