package import Domain
package import Ledger
import Synchronization

/// What was revoked before its end, read from a list that only grows.
///
/// A row that grants power is void if the list names its id with a higher version: who restores an old row,
/// MAC and all, restores nothing. Each entry's MAC covers the one before it, and the API keeps the count and
/// the last MAC in a file of its own, so that a list that was cut or rewritten is found: then nobody is let
/// in until a person has looked.
package final class Revocations: Sendable {
    /// How far the list was: to be kept outside PostgreSQL.
    package struct Head: Sendable, Equatable {
        /// How many entries there are, and the MAC of the last.
        package let count: Int
        package let mac: [UInt8]

        /// The head of a list.
        package init(count: Int, mac: [UInt8]) {
            self.count = count
            self.mac = mac
        }
    }

    /// Where the head is kept.
    package struct Store: Sendable {
        let read: @Sendable () throws -> Head?
        let write: @Sendable (Head) throws -> Void

        /// A place that reads the head, `nil` at first, and writes it.
        package init(
            read: @escaping @Sendable () throws -> Head?, write: @escaping @Sendable (Head) throws -> Void
        ) {
            self.read = read
            self.write = write
        }

        /// Keeps it only as long as the process lives.
        package static let memory = Store(read: { nil }, write: { _ in })
    }

    private struct Entry {
        let below: Int
        let until: Instant
    }

    private struct State {
        var head = Head(count: 0, mac: [])
        /// What the file said at the start, until the list has been read so far.
        var expected: Head?
        var hasReadFile = false
        var readAt: Instant?
        var entries: [UniqueID: Entry] = [:]
    }

    private static let pageSize = 10_000
    /// For how long an entry matters: longer than any row that it voids may last, whatever such a row says of
    /// its own end.
    private static let lifetime = Duration.seconds(11 * 366 * 86_400)

    private let ledger: Ledger
    private let seals: RowSeals
    private let store: Store
    private let state = Mutex(State())
    /// How far the file is; held while it is written.
    private let written = Mutex(0)

    /// The list of an installation.
    package init(ledger: Ledger, seals: RowSeals, store: Store) {
        self.ledger = ledger
        self.seals = seals
        self.store = store
    }

    /// Whether a row of this id and version is void.
    package func isVoid(_ id: UniqueID, version: Int = 0) -> Bool {
        version < floor(of: id)
    }

    /// The lowest version that a row of this id may have.
    package func floor(of id: UniqueID) -> Int { state.withLock { $0.entries[id]?.below ?? 0 } }

    /// Reads what has come since, unless that was done within the last second.
    /// - Throws: `alteredRow` if the list was cut or altered.
    package func refresh(at now: Instant) async throws {
        let isFresh = state.withLock { $0.readAt.map { now < $0 + .seconds(1) && now >= $0 } ?? false }
        if !isFresh { try await read(at: now) }
    }

    /// Voids the rows of a subject whose version is lower; it is in force here at once, and in other
    /// processes of the API once they look at the list.
    package func revoke(
        _ subject: UniqueID, below: Int = .max, at now: Instant
    ) async throws {
        let until = now + Self.lifetime
        while true {
            try await read(at: now)
            // Said before: the list only grows, so nothing is said twice.
            guard floor(of: subject) < below else { return }
            let head = state.withLock { $0.head }
            let row = sealed(head.count + 1, subject, below: below, until: until, after: head.mac)
            if try await ledger.append(row) { break }
            try await read(at: now)
            // Somebody else was faster, or the entry before it is gone.
            guard state.withLock({ $0.head }) != head else { throw Self.altered }
        }
        try await read(at: now)
    }

    private func read(at now: Instant) async throws {
        try readFile()
        while true {
            let before = state.withLock { $0.head }
            let rows = try await ledger.revocations(after: before.count, limit: Self.pageSize)
            try state.withLock { state throws(AccessError) in
                // Somebody else has read meanwhile: what they read is not added again.
                guard state.head == before else { return }
                for row in rows { try take(row, &state, now) }
                if rows.count < Self.pageSize {
                    guard state.expected == nil else { throw Self.altered }
                    state.readAt = now
                }
            }
            if rows.count < Self.pageSize { break }
        }
        try writeFile()
    }

    private func take(_ row: RevocationRow, _ state: inout State, _ now: Instant) throws(AccessError) {
        let expected = sealed(
            state.head.count + 1, row.subject, below: row.below, until: row.until, after: state.head.mac)
        guard row.sequence == expected.sequence, row.mac == expected.mac else { throw Self.altered }
        state.head = Head(count: row.sequence, mac: row.mac.code)
        if let known = state.expected, known.count == row.sequence {
            guard known.mac == row.mac.code else { throw Self.altered }
            state.expected = nil
        }
        guard row.until > now else { return }
        if let entry = state.entries[row.subject], entry.below > row.below { return }
        state.entries[row.subject] = Entry(below: row.below, until: row.until)
    }

    private func sealed(
        _ sequence: Int, _ subject: UniqueID, below: Int, until: Instant, after mac: [UInt8]
    ) -> RevocationRow {
        RevocationRow(
            sequence: sequence, subject: subject, below: below, until: until,
            mac: seals.seal { keyID in
                [
                    Array("revocations".utf8), Array(String(sequence).utf8), Array(keyID.utf8), mac,
                    subject.bytes, Array(String(below).utf8), until.sealedPart,
                ]
            })
    }

    private func readFile() throws {
        guard !state.withLock({ $0.hasReadFile }) else { return }
        let head = try store.read()
        state.withLock { state in
            guard !state.hasReadFile else { return }
            state.hasReadFile = true
            state.expected = head.flatMap { $0.count > 0 ? $0 : nil }
        }
    }

    private func writeFile() throws {
        let head = state.withLock { $0.head }
        try written.withLock { written in
            guard head.count > written else { return }
            try store.write(head)
            written = head.count
        }
    }

    private static let altered = AccessError(
        .alteredRow,
        "the list of revocations was cut or altered outside the API, so nobody is let in: see the log")
}
