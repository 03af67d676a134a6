/// A kind of work that runs on the platform itself, with a handler of its own.
package struct TaskKind: Sendable, Hashable, CustomStringConvertible {
    /// The word used in PostgreSQL, JSON, settings and the command line.
    package let name: String
    /// The partition of the queue that its tasks have for themselves: `partitionsFrom` or higher, and of no
    /// other kind, ever.
    package let partition: Int

    /// Partitions below this belong to runs.
    package static let partitionsFrom = 1_000

    /// A kind; the name has 1 to 64 small letters, digits and dots.
    package init(_ name: String, partition: Int) {
        precondition((1...64).contains(name.utf8.count) && partition >= Self.partitionsFrom)
        self.name = name
        self.partition = partition
    }

    /// The kind of a word; `nil` if there is none.
    package init?(name: String) {
        guard let kind = TaskKind.all.first(where: { $0.name == name }) else { return nil }
        self = kind
    }

    /// Removes what an organization keeps no longer.
    package static let retention = TaskKind("retention", partition: 1_000)

    /// Tells a webhook of an event. The role api does it, which has the key of the secrets.
    package static let webhookDelivery = TaskKind("webhook.deliver", partition: 1_001)

    /// The kinds of this release.
    package static let all = [retention, webhookDelivery]

    /// The word.
    package var description: String { name }
}
