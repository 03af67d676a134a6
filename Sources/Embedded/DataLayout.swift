import Glibc
import Process

/// The directories and files of one instance.
///
/// ```
/// DATA/servers.lock      the instance's lock with its pid
/// DATA/postgres          PostgreSQL's data, complete or not there
/// DATA/postgres.new      the same while it is being made; a crash leaves it, the next start removes it
/// DATA/pg_hba.conf       who may log in
/// DATA/redis             Redis' append-only file
/// DATA/redis.conf        Redis' settings and passwords, its user's, 0600
/// DATA/*.server.lock     held by a server itself, thus until it has really ended
/// DATA/secrets           0700, a file each
/// DATA/logs              0700, of this start and `.previous`
/// RUN/postgres RUN/redis the sockets, each 0700 and its server's
/// ```
/// Under root DATA and RUN are 0711, because the servers' users must pass through, else 0700.
struct DataLayout: Sendable {
    let data: String
    let run: String
    let postgresUser: ServerUser?
    let redisUser: ServerUser?

    var postgresData: String { "\(data)/postgres" }
    var postgresStaging: String { "\(data)/postgres.new" }
    var postgresAccess: String { "\(data)/pg_hba.conf" }
    var postgresSockets: String { "\(run)/postgres" }
    var postgresSocket: String { "\(postgresSockets)/.s.PGSQL.5432" }
    var redisData: String { "\(data)/redis" }
    var redisConfiguration: String { "\(data)/redis.conf" }
    var redisSocket: String { "\(run)/redis/redis.sock" }

    /// The longest that a run directory may be: sun_path has 108 bytes, and PostgreSQL adds 24 of its own.
    static let runDirectoryBytesMax = 80

    /// Makes what is missing of the data directory, not yet of the run directory.
    init(_ options: EmbeddedOptions) throws {
        guard options.dataDirectory.hasPrefix("/") else {
            throw EmbeddedError(
                .directory, "the data directory must be an absolute path: \(options.dataDirectory)")
        }
        data = String(options.dataDirectory.trimmingSlashes)
        if let run = options.runDirectory {
            guard run.hasPrefix("/"), run.utf8.count <= DataLayout.runDirectoryBytesMax else {
                let limit = "an absolute path of at most \(DataLayout.runDirectoryBytesMax) bytes"
                throw EmbeddedError(.directory, "the directory for sockets must be \(limit): \(run)")
            }
            self.run = String(run.trimmingSlashes)
        } else if "\(data)/run".utf8.count <= DataLayout.runDirectoryBytesMax {
            run = "\(data)/run"
        } else {
            run = "/tmp/crmm-\(DataLayout.hash("\(geteuid()) \(data)"))"
        }
        postgresUser = try ServerUser.forServer("PostgreSQL", names: ["postgres"])
        redisUser = try ServerUser.forServer("Redis", names: ["redis", "nobody"])
        try makeOwn(data)
        for user in [postgresUser, redisUser] { try user?.checkCanReach(data) }
        try Directory.make("\(data)/logs")
    }

    /// Makes the run directory.
    func makeRunDirectory() throws {
        try makeOwn(run)
        for user in [postgresUser, redisUser] { try user?.checkCanReach(run) }
    }

    /// Makes the directory of a server's socket anew, without what a killed server left there; only with its
    /// lock.
    func makeSocketDirectory(for socket: String, owner: ServerUser?) throws {
        let directory = Directory.parent(of: socket)
        try Directory.removeTree(directory)
        try makeServerDirectory(directory, owner: owner)
    }

    /// Removes the sockets' directories, and the run directory where it stands in /tmp.
    func removeRunDirectories() throws {
        for socket in [postgresSocket, redisSocket] { try Directory.removeTree(Directory.parent(of: socket)) }
        if run.hasPrefix("/tmp/crmm-") { try Directory.removeTree(run) }
    }

    /// A directory that belongs to a server's user and to nobody else.
    func makeServerDirectory(_ path: String, owner: ServerUser?) throws {
        try Directory.make(path)
        if let owner { try FileStatus.setOwner(path, userID: owner.userID, groupID: owner.groupID) }
    }

    /// The log of a server's new start; that of the start before is kept.
    func startLog(_ name: String) throws -> String {
        let path = "\(data)/logs/\(name).log"
        if fileExists(path) { try renameFile(path, to: "\(path).previous") }
        return path
    }

    /// The lock of the whole instance.
    func instanceLock() throws -> FileLock {
        do throws(ProcessError) {
            return try FileLock("\(data)/servers.lock")
        } catch {
            guard error.code == .locked else { throw error }
            throw EmbeddedError(.inUse, "another instance is using \(data)", cause: error)
        }
    }

    /// The lock that a server itself is to hold. One still held is a server whose parent was killed and that
    /// is shutting down: waits for it, at most ten seconds.
    func serverLock(_ name: String) async throws -> FileLock {
        let path = "\(data)/\(name).server.lock"
        let deadline = ContinuousClock.now.advanced(by: .seconds(10))
        while true {
            do throws(ProcessError) {
                return try FileLock(path)
            } catch {
                guard error.code == .locked else { throw error }
                guard ContinuousClock.now < deadline else {
                    throw EmbeddedError(.inUse, "a server of an earlier instance does not end", cause: error)
                }
            }
            try await Task.sleep(for: .milliseconds(5))
        }
    }

    /// Our own directory: no link, not somebody else's, not writable by others.
    private func makeOwn(_ path: String) throws {
        let mode: UInt32 = geteuid() == 0 ? 0o711 : 0o700
        if FileStatus(path, followsLinks: false) == nil { try Directory.make(path, mode: mode) }
        guard let status = FileStatus(path), status.isDirectory else {
            throw EmbeddedError(.directory, "\(path) is not a directory")
        }
        guard status.userID == geteuid(), status.mode & 0o022 == 0 else {
            throw EmbeddedError(
                .directory, "\(path) must belong to user \(geteuid()) and be writable by no other")
        }
        if status.mode & mode != mode { try FileStatus.setMode(path, status.mode | mode) }
    }

    /// FNV-1a, so that instances with long paths do not meet in /tmp.
    private static func hash(_ text: String) -> String {
        let value = text.utf8.reduce(UInt64(0xcbf2_9ce4_8422_2325)) { ($0 ^ UInt64($1)) &* 0x100_0000_01b3 }
        return String(value, radix: 16)
    }
}

extension String {
    fileprivate var trimmingSlashes: Substring {
        var text = self[...]
        while text.count > 1, text.hasSuffix("/") { text.removeLast() }
        return text
    }
}
