package import Domain

/// The names of one partition's keys and functions.
package struct Keyspace: Sendable, Hashable {
    /// What every key begins with.
    package let prefix: String
    /// The partition, from 0, of so many.
    package let partition: Int
    package let count: Int
    /// What the library's name carries besides its version; empty but where several stand in one server.
    package let librarySuffix: String

    /// The keys of a partition. The suffix consists of letters, digits and underscores.
    package init(
        prefix: String = "crmm:", partition: Int = 0, of count: Int = 1, librarySuffix: String = ""
    ) {
        self.prefix = prefix
        self.partition = partition
        self.count = count
        self.librarySuffix = librarySuffix
    }

    /// The most partitions that there may be.
    package static let partitionsMax = 64

    /// Which of so many partitions has an organization: the same in every process and release.
    package static func partition(of organization: OrganizationID, count: Int) -> Int {
        // The words of an id are mixed (SplitMix64), since ids begin with the time.
        var word = organization.value.high ^ (organization.value.low &* 0x9E37_79B9_7F4A_7C15)
        word = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ (word >> 27)) &* 0x94D0_49BB_1331_11EB
        return Int((word ^ (word >> 31)) % UInt64(count))
    }

    /// The version of keys and functions, and what the number of partitions makes of it. A data set of
    /// another one is as good as lost.
    package var layout: String { count == 1 ? Library.version : "\(Library.version)/\(count)" }

    /// The layout that the name of an epoch ends with, behind its server's process and role; `nil` for one
    /// that says none.
    package static func layout(ofEpoch id: String) -> Substring? {
        let words = id.split(separator: "/", maxSplits: 2)
        return words.count == 3 ? words[2] : nil
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
