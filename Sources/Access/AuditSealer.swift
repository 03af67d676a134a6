package import Domain
package import Ledger

/// Chains the entries of the audit log, and verifies the chains.
///
/// An entry is committed with the change that it tells of, without a place; within a second a sealer gives it
/// a position and a MAC over all of it and the MAC before. The key is not in PostgreSQL, so who owns the
/// database can neither change, take out nor put in what was sealed. The heads are kept outside, so that a
/// chain that ends earlier than it did is found too.
package struct AuditSealer: Sendable {
    /// Where the heads are kept: replaced as a whole.
    package struct Store: Sendable {
        let read: @Sendable () throws -> [AuditHead]
        let write: @Sendable ([AuditHead]) throws -> Void

        /// A place that reads the heads, none at first, and writes them.
        package init(
            read: @escaping @Sendable () throws -> [AuditHead],
            write: @escaping @Sendable ([AuditHead]) throws -> Void
        ) {
            self.read = read
            self.write = write
        }
    }

    /// What is wrong with a chain, and where it begins.
    package struct Fault: Sendable, Equatable, CustomStringConvertible {
        /// Whose log, and the position of the first entry that is not as it was sealed.
        package let chain: UniqueID
        package let position: Int
        /// One sentence.
        package let reason: String

        /// The sentence with its place.
        package var description: String { "log \(chain), entry \(position): \(reason)" }
    }

    /// What a verification found.
    package struct Report: Sendable {
        /// How many logs and sealed entries were looked at.
        package var chains = 0
        package var entries = 0
        /// The first fault of each log that has one.
        package var faults: [Fault] = []
    }

    private static let batch = 500
    private static let chainsMax = 1_000

    private let ledger: Ledger
    private let seals: RowSeals
    private let store: Store

    /// A sealer on the platform's scope.
    package init(ledger: Ledger, seals: RowSeals, store: Store) {
        self.ledger = ledger
        self.seals = seals
        self.store = store
    }

    // MARK: Sealing

    /// Seals once a second and keeps the heads once a minute, until it is cancelled; `onFailure` hears of
    /// what fails, which is tried again.
    package func run(onFailure: @Sendable (any Error) -> Void) async throws {
        var rounds = 0
        while true {
            do {
                try await seal()
                if rounds % 60 == 0 { try await keepHeads() }
            } catch is CancellationError {
                throw CancellationError()
            } catch {
                onFailure(error)
            }
            rounds += 1
            try await Task.sleep(for: .seconds(1))
        }
    }

    /// Seals all that waits.
    package func seal() async throws {
        for chain in try await ledger.unsealedChains(limit: Self.chainsMax) {
            while try await ledger.sealAudit(of: chain, limit: Self.batch, mac) == Self.batch {}
        }
    }

    /// Keeps the heads outside the database.
    package func keepHeads() async throws {
        let known = Dictionary(try store.read().map { ($0.chain, $0) }) { first, _ in first }
        let now = Dictionary(try await ledger.auditHeads().map { ($0.chain, $0) }) { first, _ in first }
        // A chain that is shorter than it was has been cut: what was known of it stays.
        let heads = known.merging(now) { $1.count >= $0.count ? $1 : $0 }
        try store.write(heads.values.sorted { $0.chain < $1.chain })
    }

    private func mac(_ entry: AuditEntry, _ position: Int, _ previous: [UInt8]) -> RowMAC {
        seals.seal { entry.sealedParts(position: position, after: previous, keyID: $0) }
    }

    // MARK: Verifying

    /// Reads all that is sealed and names the first entry of each log that is not as it was sealed.
    package func verify() async throws -> Report {
        var report = Report()
        let heads = Dictionary(try store.read().map { ($0.chain, $0) }) { first, _ in first }
        let checkpoints = Dictionary(
            try await ledger.auditCheckpoints().map { ($0.head.chain, $0) }
        ) { first, _ in first }
        let chains = Set(try await ledger.auditHeads().map(\.chain)).union(heads.keys)
        for chain in chains.sorted() {
            report.chains += 1
            var start = AuditHead(chain: chain, count: 0, mac: [])
            if let checkpoint = checkpoints[chain] {
                guard seals.holds(checkpoint.mac, { Self.parts(of: checkpoint.head, keyID: $0) }) else {
                    report.faults.append(
                        Fault(
                            chain: chain, position: checkpoint.head.count,
                            reason: "the checkpoint was made or altered outside the API"))
                    continue
                }
                start = checkpoint.head
            }
            let fault = try await verify(chain, from: start, head: heads[chain], &report.entries)
            if let fault { report.faults.append(fault) }
        }
        return report
    }

    /// What the MAC of a checkpoint covers.
    static func parts(of head: AuditHead, keyID: String) -> [[UInt8]] {
        [
            Array("audit_checkpoints".utf8), Array(keyID.utf8), head.chain.bytes,
            Array(String(head.count).utf8), head.mac,
        ]
    }

    private func verify(
        _ chain: UniqueID, from start: AuditHead, head: AuditHead?, _ count: inout Int
    ) async throws -> Fault? {
        var (position, mac) = (start.count, start.mac)
        while true {
            let entries = try await ledger.sealedAudit(of: chain, after: position, limit: Self.batch)
            for entry in entries {
                guard let found = entry.position, found == position + 1 else {
                    return Fault(
                        chain: chain, position: position + 1, reason: "the entry is gone")
                }
                let expected = self.mac(entry, found, mac)
                guard entry.mac == expected else {
                    return Fault(
                        chain: chain, position: found,
                        reason: "the entry of \(entry.at) (\(entry.action)) was changed")
                }
                (position, mac) = (found, expected.code)
                count += 1
                if let head, head.count == position, head.mac != mac {
                    return Fault(
                        chain: chain, position: position,
                        reason: "the log was written anew: the head that was kept says otherwise")
                }
            }
            if entries.count < Self.batch { break }
        }
        guard let head, head.count > position else { return nil }
        return Fault(
            chain: chain, position: position + 1,
            reason: "the log was cut: it had \(head.count) entries and has \(position)")
    }
}
