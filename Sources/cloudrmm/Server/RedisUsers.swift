import ArgumentParser
import Process
import Streams
import Trust

/// `cloudrmm redis-users`: makes the logins of Redis that the roles use, each with the rights it needs.
struct RedisUsers: ParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "redis-users",
        abstract:
            "Make a file of Redis users with minimal rights, one a role, and show their passwords once.",
        discussion: """
            Redis reads the file with the directive 'aclfile'; it holds hashes only, and turns the default \
            user off. The passwords are printed as settings for each role, once.
            """)

    @Argument(help: "The file to make; one that exists is not touched.")
    var file: String

    @Option(help: "The address that the settings lead to: redis:// or rediss://, without a user.")
    var server = "redis://localhost:6379/"

    @Flag(help: "Also make logins for replicas and sentinels, and show the lines of their files.")
    var replication = false

    func validate() throws {
        guard server.contains("://"), !server.contains("@") else {
            throw ValidationError("--server is \"\(server)\"; expected redis://HOST:PORT/ without a user")
        }
    }

    func run() throws {
        let path = absolutePath(file)
        guard !fileExists(path) else {
            throw CommandError("\(path) exists already; remove it to make new passwords")
        }
        let (text, settings) = Self.make(server: server, replication: replication) {
            Trust.randomBytes(32).hex
        }
        try DurableFile.write(Array(text.utf8), to: path, mode: 0o600)
        for line in settings { printLine(line) }
    }

    /// The content of the file, and the settings that belong to it.
    static func make(
        server: String, replication: Bool, newPassword: () -> String
    ) -> (file: String, settings: [String]) {
        var file = "user default off resetpass resetkeys resetchannels -@all\n"
        var settings: [String] = []
        func login(_ line: (_ hash: String) -> String) -> String {
            let password = newPassword()
            file += line(SHA256.hash(Array(password.utf8)).hex) + "\n"
            return password
        }
        for user in QueueUser.allCases {
            let password = login { user.line(passwordHash: $0) }
            let url = server.replacing("://", with: "://\(user.rawValue):\(password)@", maxReplacements: 1)
            switch user {
            case .api, .gateway, .worker:
                settings += ["# the role \(user)", "\(Setting.redisURL.rawValue)=\(url)"]
            case .loader: settings += ["# every role", "\(Setting.redisLoaderURL.rawValue)=\(url)"]
            }
        }
        for user in ServerUser.allCases where replication {
            let password = login(user.line)
            switch user {
            case .replica:
                settings += [
                    "# redis.conf of every server; each also reads the file of users as its 'aclfile'",
                    "masteruser \(user.rawValue)", "masterauth \(password)",
                ]
            case .sentinel:
                settings += [
                    "# sentinel.conf; MASTER is the name in 'sentinel monitor'",
                    "sentinel auth-user MASTER \(user.rawValue)", "sentinel auth-pass MASTER \(password)",
                ]
            }
        }
        return (file, settings)
    }
}

extension [UInt8] {
    fileprivate var hex: String {
        map { byte in (byte < 16 ? "0" : "") + String(byte, radix: 16) }.joined()
    }
}
