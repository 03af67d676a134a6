/// Which statements a connection has prepared: pure, at most `capacity`, the least recently used leaves
/// first.
///
/// A statement whose preparation has not been answered yet may be used by name only in the transaction that
/// prepares it, where a failed preparation fails the use too; any other request sends its text meanwhile.
struct StatementCache {
    /// How to send a statement.
    enum Use: Equatable {
        case prepare(String)
        case prepared(String)
        case once
    }

    private struct Entry {
        let name: String
        /// The batch that prepares it; nil once the server has confirmed it.
        var preparing: Int?
        var lastUse: Int
    }

    private let capacity: Int
    private var entries: [StatementKey: Entry] = [:]
    private var clock = 0

    init(capacity: Int = 512) { self.capacity = capacity }

    /// How a batch sends a statement.
    mutating func use(_ key: StatementKey, batch: Int) -> Use {
        clock += 1
        guard let entry = entries[key] else {
            entries[key] = Entry(name: "s\(clock)", preparing: batch, lastUse: clock)
            return .prepare("s\(clock)")
        }
        entries[key]?.lastUse = clock
        return entry.preparing == nil || entry.preparing == batch ? .prepared(entry.name) : .once
    }

    /// The server has prepared the statement.
    mutating func confirm(_ key: StatementKey) { entries[key]?.preparing = nil }

    /// The statement is not prepared or of no more use; returns the name to deallocate, if it was confirmed.
    mutating func forget(_ key: StatementKey) -> String? {
        guard let entry = entries.removeValue(forKey: key) else { return nil }
        return entry.preparing == nil ? entry.name : nil
    }

    /// Takes out the least recently used statement if there are too many; returns the name to deallocate.
    mutating func evict() -> String? {
        guard entries.count > capacity else { return nil }
        let oldest = entries.filter { $0.value.preparing == nil }.min { $0.value.lastUse < $1.value.lastUse }
        return oldest.flatMap { forget($0.key) }
    }
}
