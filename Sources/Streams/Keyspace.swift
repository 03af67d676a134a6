import Domain

/// The names of one partition's keys and functions.
package struct Keyspace: Sendable, Hashable {
    /// What every key begins with.
    package let prefix: String
    /// The partition, from 0.
    package let partition: Int
    /// What the library's name carries besides its version; empty but where several stand in one server.
    package let librarySuffix: String

    /// The keys of a partition. The suffix consists of letters, digits and underscores.
    package init(prefix: String = "crmm:", partition: Int = 0, librarySuffix: String = "") {
        self.prefix = prefix
        self.partition = partition
        self.librarySuffix = librarySuffix
    }

    /// The full name of one of the partition's keys; the partition is the hash tag, so all live in one slot.
    func key(_ name: String) -> String { "\(prefix){\(partition)}:\(name)" }

    func queue(_ organization: OrganizationID, _ priority: Priority) -> String {
        key("queue:\(organization):\(priority.rawValue)")
    }

    func inbox(_ gateway: GatewayID) -> String { "\(prefix)gateway:{\(gateway)}:inbox" }

    func alive(_ gateway: GatewayID) -> String { "\(prefix)gateway:{\(gateway)}:alive" }

    func function(_ name: String) -> String { "\(Library.version)\(librarySuffix)_\(name)" }

    /// A pattern of SCAN for all keys of the partition.
    var pattern: String {
        key("*").dropLast().map { "*?[]\\^".contains($0) ? "\\\($0)" : "\($0)" }.joined() + "*"
    }
}
