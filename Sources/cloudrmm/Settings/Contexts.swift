import Foundation
import Process

/// The installations that somebody uses from here, each with what opens it, in a file that is its owner's
/// alone: `$XDG_CONFIG_HOME/cloudrmm/contexts.json`, else below `~/.config`.
struct Contexts: Codable {
    /// One installation and who one is there.
    struct Context: Codable {
        var apiURL: String
        /// An API key or a session.
        var key: String
        /// The authority of the API's certificate, PEM; without it the system's are trusted.
        var certificateAuthority: String?
    }

    /// Which is used unless another is named.
    var current: String?
    var contexts: [String: Context] = [:]

    private static var directory: URL {
        let home = ProcessInfo.processInfo.environment["XDG_CONFIG_HOME"].flatMap { $0.isEmpty ? nil : $0 }
        let base =
            home.map { URL(filePath: $0) } ?? URL(filePath: NSHomeDirectory()).appending(path: ".config")
        return base.appending(path: "cloudrmm")
    }

    static var path: String { directory.appending(path: "contexts.json").path }

    /// What is kept; nothing if there is no file.
    static func read() throws -> Contexts {
        guard FileManager.default.fileExists(atPath: path) else { return Contexts() }
        let attributes = try FileManager.default.attributesOfItem(atPath: path)
        let owner = (attributes[.ownerAccountID] as? NSNumber)?.uint32Value
        let mode = (attributes[.posixPermissions] as? NSNumber)?.uint16Value ?? 0o777
        guard owner == getuid(), mode & 0o077 == 0 else {
            throw Failure(
                .usage, "\(path) is not yours alone (owner \(owner ?? 0), mode \(String(mode, radix: 8)))")
        }
        do {
            return try JSONDecoder().decode(Contexts.self, from: Data(contentsOf: URL(filePath: path)))
        } catch {
            throw Failure(.usage, "\(path) cannot be read: \(error.localizedDescription)")
        }
    }

    func write() throws {
        try FileManager.default.createDirectory(
            at: Self.directory, withIntermediateDirectories: true, attributes: [.posixPermissions: 0o700])
        let encoder = JSONEncoder()
        encoder.outputFormatting = [.prettyPrinted, .sortedKeys, .withoutEscapingSlashes]
        try DurableFile.write(Array(try encoder.encode(self)), to: Self.path, mode: 0o600)
    }

    /// The one of a name, or the current one; `nil` if none is named and none is current.
    func context(_ name: String?) throws -> (name: String, context: Context)? {
        guard let name = name ?? current else { return nil }
        guard let context = contexts[name] else {
            let known = contexts.keys.sorted().joined(separator: ", ")
            throw Failure(
                .usage,
                "there is no context \(name)"
                    + (known.isEmpty ? ": 'cloudrmm login' makes one" : "; there are: \(known)"))
        }
        return (name, context)
    }
}
