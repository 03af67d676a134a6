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
        let (text, settings) = Self.make(server: server) { Trust.randomBytes(32).hex }
        try DurableFile.write(Array(text.utf8), to: path, mode: 0o600)
        for line in settings { printLine(line) }
    }

    /// The content of the file, and the settings that belong to it.
    static func make(server: String, password: () -> String) -> (file: String, settings: [String]) {
        var file = "user default off resetpass resetkeys resetchannels -@all\n"
        var settings: [String] = []
        for user in QueueUser.allCases {
            let secret = password()
            file += user.line(passwordHash: SHA256.hash(Array(secret.utf8)).hex) + "\n"
            let url = server.replacing("://", with: "://\(user.rawValue):\(secret)@", maxReplacements: 1)
            switch user {
            case .api, .gateway, .worker:
                settings += ["# the role \(user)", "\(Setting.redisURL.rawValue)=\(url)"]
            case .loader: settings += ["# every role", "\(Setting.redisLoaderURL.rawValue)=\(url)"]
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
