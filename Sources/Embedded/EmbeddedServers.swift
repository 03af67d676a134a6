import Glibc
package import Logging
package import Process
import Synchronization

/// A private PostgreSQL and a private Redis server that live as long as this process and this value's `stop`.
///
/// Both listen on unix sockets only, run as users of their own under root, and end by themselves when this
/// process dies, however it dies. Data stays in the data directory; the next start finds it.
package final class EmbeddedServers: Sendable {
    /// A server that ended without having been told to.
    package struct UnexpectedExit: Sendable, Hashable {
        /// "PostgreSQL" or "Redis".
        package let server: String
        /// How its process ended.
        package let exit: ChildExit
    }

    /// The directory of PostgreSQL's socket.
    package var postgresSocketDirectory: String { layout.postgresSockets }
    /// The path of Redis' socket.
    package var redisSocketPath: String { layout.redisSocket }
    /// Servers that ended without having been told to; ends with `stop`. For one reader.
    package let onUnexpectedExit: AsyncStream<UnexpectedExit>

    private let layout: DataLayout
    private let secrets: SecretStore
    private let lock: FileLock
    private let postgres: ServerProcess
    private let redis: ServerProcess
    private let logger: Logger
    private let exits: AsyncStream<UnexpectedExit>.Continuation
    private let isStopping = Mutex(false)

    private init(
        layout: DataLayout, secrets: SecretStore, lock: FileLock, postgres: ServerProcess,
        redis: ServerProcess,
        logger: Logger
    ) {
        (self.layout, self.secrets, self.lock) = (layout, secrets, lock)
        (self.postgres, self.redis, self.logger) = (postgres, redis, logger)
        (onUnexpectedExit, exits) = AsyncStream.makeStream(bufferingPolicy: .bufferingNewest(2))
    }

    /// Starts both servers at once, making their data on the first start, and returns when both accept
    /// logins.
    ///
    /// Refuses a data directory that another instance uses. If one server fails, the other is stopped again.
    package static func start(_ options: EmbeddedOptions, logger: Logger) async throws -> EmbeddedServers {
        let layout = try DataLayout(options)
        let lock = try layout.instanceLock()
        let secrets = try SecretStore(directory: "\(layout.data)/secrets")
        try layout.makeRunDirectory()

        async let startedRedis = result {
            try await RedisServer.start(layout: layout, secrets: secrets, durable: options.durable)
        }
        let postgres = await result {
            try await PostgresServer.start(layout: layout, secrets: secrets, durable: options.durable)
        }
        switch (postgres, await startedRedis) {
        case (.success(let postgres), .success(let redis)):
            let servers = EmbeddedServers(
                layout: layout, secrets: secrets, lock: lock, postgres: postgres, redis: redis, logger: logger
            )
            servers.watch(postgres)
            servers.watch(redis)
            logger.info("embedded servers started", metadata: ["data.directory": "\(layout.data)"])
            return servers
        case (.failure(let failure), .success(let redis)):
            await redis.stop(SIGTERM)
            throw failure
        case (.success(let postgres), .failure(let failure)):
            await postgres.stop(SIGINT)
            throw failure
        case (.failure(let failure), .failure):
            throw failure
        }
    }

    /// Stops both servers cleanly within ten seconds and returns when they have ended; again is harmless.
    package func stop() async {
        isStopping.withLock { $0 = true }
        async let redisEnd: Void = redis.stop(SIGTERM)
        await postgres.stop(SIGINT)
        await redisEnd
        exits.finish()
        do {
            try layout.removeRunDirectories()
        } catch {
            logger.warning("cannot remove the run directory", metadata: ["error": "\(error)"])
        }
        lock.release()
    }

    /// The login of PostgreSQL's superuser, with its password.
    package var postgresSuperuserURL: String {
        get throws {
            let name = PostgresServer.superuser
            let password = try secrets.secret("postgres-\(name.replacingUnderscores)")
            return postgresURL(user: name, password: password)
        }
    }

    /// The address of the database for this login.
    package func postgresURL(user: String, password: String) -> String {
        let login =
            "\(user.percentEncoded(keepsSlashes: false)):\(password.percentEncoded(keepsSlashes: false))"
        let directory = layout.postgresSockets.percentEncoded(keepsSlashes: true)
        return "postgresql://\(login)@/\(PostgresServer.database)?host=\(directory)"
    }

    /// The login of Redis' administrator, with its password.
    package var redisAdminURL: String { get throws { try redisURL(user: .admin) } }

    /// The address of Redis for this login, with its password.
    package func redisURL(user: RedisUser) throws -> String {
        let password = try RedisServer.password(of: user, secrets)
        return "unix://\(user.rawValue):\(password)@\(layout.redisSocket.percentEncoded(keepsSlashes: true))"
    }

    /// The secret of this name, 32 random bytes as base64url, made when first asked for and kept in a 0600
    /// file.
    package func secret(_ name: String) throws -> String { try secrets.secret(name) }

    /// Ends with the server's process, which `stop` or the death of this process ends.
    private func watch(_ server: ServerProcess) {
        Task {
            let exit = await server.child.wait()
            if isStopping.withLock({ $0 }) { return }
            logger.error(
                "embedded server ended unexpectedly",
                metadata: ["server": "\(server.name)", "exit": "\(exit)"])
            exits.yield(UnexpectedExit(server: server.name, exit: exit))
        }
    }
}

private func result<R: Sendable>(_ body: () async throws -> sending R) async -> Result<R, any Error> {
    do {
        return .success(try await body())
    } catch {
        return .failure(error)
    }
}

extension String {
    var replacingUnderscores: String { String(map { $0 == "_" ? "-" : $0 }) }

    /// All but unreserved characters (RFC 3986), and slashes where they are kept, as %XX.
    func percentEncoded(keepsSlashes: Bool) -> String {
        let plain = Set("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~".utf8)
        return utf8.map { byte in
            if plain.contains(byte) || keepsSlashes && byte == UInt8(ascii: "/") {
                return String(Unicode.Scalar(byte))
            }
            return "%" + (byte < 16 ? "0" : "") + String(byte, radix: 16, uppercase: true)
        }.joined()
    }
}
