import Glibc
import Process

/// The system user that a server runs as.
struct ServerUser: Sendable, Hashable {
    let name: String
    let userID: UInt32
    let groupID: UInt32

    /// The first of the names that the system knows, if root starts the server; nil, the caller itself,
    /// otherwise.
    static func forServer(_ server: String, names: [String]) throws -> ServerUser? {
        guard geteuid() == 0 else { return nil }
        let lines = try readFile("/etc/passwd", max: 16 * 1024 * 1024).split(separator: UInt8(ascii: "\n"))
        let users = lines.compactMap { ServerUser(line: String(decoding: $0, as: UTF8.self)) }
        for name in names {
            if let user = users.first(where: { $0.name == name }) { return user }
        }
        throw EmbeddedError(
            .missingUser,
            "\(server) does not run as root, and this system has no user \(names.joined(separator: " or "))")
    }

    /// A line of passwd(5).
    init?(line: String) {
        let fields = line.split(separator: ":", omittingEmptySubsequences: false)
        guard fields.count >= 4, let userID = UInt32(fields[2]), let groupID = UInt32(fields[3]) else {
            return nil
        }
        name = String(fields[0])
        (self.userID, self.groupID) = (userID, groupID)
    }

    /// Refuses a directory that this user cannot reach, and names the parent that is closed to it.
    func checkCanReach(_ path: String) throws {
        var directory = path
        while true {
            if let status = FileStatus(directory), status.mode & searchBit(status) == 0 {
                throw EmbeddedError(
                    .directory,
                    "the user \(name) cannot enter \(directory) on the way to \(path): "
                        + "make it searchable (chmod o+x) or choose another data directory")
            }
            if directory == "/" { return }
            directory = Directory.parent(of: directory)
        }
    }

    private func searchBit(_ status: FileStatus) -> UInt32 {
        if status.userID == userID { return 0o100 }
        return status.groupID == groupID ? 0o010 : 0o001
    }
}
