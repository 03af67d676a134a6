package import Domain
package import Ledger
import Synchronization

/// Chains the entries of the audit log, and verifies the chains.
///
/// An entry is committed with the change that it tells of, without a place; within a second a sealer gives it
/// a position and a MAC over all of it and the MAC before. The key is not in PostgreSQL, so who owns the
/// database can neither change, take out nor put in what was sealed. The heads are kept outside, so that a
/// chain that ends earlier than it did is found too.
package final class AuditSealer: Sendable {
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
    /// How far each log was when it was looked at last: what the database says of before must not differ.
    private let known = Mutex<[UniqueID: AuditHead]?>(nil)

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
            do { try await seal() } catch { try Self.report(error, onFailure) }
            if rounds % 60 == 0 {
                do { try await keepHeads() } catch { try Self.report(error, onFailure) }
            }
            rounds += 1
            try await Task.sleep(for: .seconds(1))
        }
    }

    private static func report(_ error: any Error, _ onFailure: (any Error) -> Void) throws {
        if error is CancellationError { throw error }
        onFailure(error)
    }

    /// Seals all that waits. A log that is not as it was gets nothing put on top; the others go on.
    /// - Throws: the first failure, after all logs were tried.
    package func seal() async throws {
        var failure: (any Error)?
        for chain in try await ledger.unsealedChains(limit: Self.chainsMax) {
            do { try await seal(chain) } catch { failure = failure ?? error }
        }
        if let failure { throw failure }
    }

    private func seal(_ chain: UniqueID) async throws {
        while true {
            let known = try heads()[chain]
            let (count, head) = try await ledger.sealAudit(
                of: chain, limit: Self.batch, after: known, holds: holds, mac)
            if let head { self.known.withLock { $0?[chain] = head } }
            if count < Self.batch { return }
        }
    }

    /// The heads that are known: at first those that were kept outside.
    private func heads() throws -> [UniqueID: AuditHead] {
        if let heads = known.withLock({ $0 }) { return heads }
        let kept = Dictionary(try store.read().map { ($0.chain, $0) }) { first, _ in first }
        return known.withLock { known in
            let heads = known ?? kept
            known = heads
            return heads
        }
    }

    /// Keeps the heads outside the database. Of a log that is not as it was the one that is known stays, so
    /// that a verification finds it.
    /// - Throws: `alteredRow` if there is such a log, after the others were kept.
    package func keepHeads() async throws {
        let before = Dictionary(try store.read().map { ($0.chain, $0) }) { first, _ in first }
        let cut = Dictionary(
            try await ledger.auditCheckpoints().filter(holds).map { ($0.head.chain, $0.head.count) }
        ) { first, _ in first }
        var heads = before
        var altered: UniqueID?
        for head in try await ledger.auditHeads() {
            guard let known = before[head.chain], cut[head.chain] ?? 0 < known.count else {
                heads[head.chain] = head
                continue
            }
            if try await ledger.auditMAC(of: head.chain, at: known.count) == known.mac {
                heads[head.chain] = head
            } else {
                altered = head.chain
            }
        }
        let there = Set(try await ledger.auditHeads().map(\.chain))
        for chain in try await erased(heads.values.filter({ !there.contains($0.chain) })) {
            heads[chain] = nil
        }
        try store.write(heads.values.sorted { $0.chain < $1.chain })
        if let altered {
            throw AccessError(.alteredRow, "the audit log \(altered) is not as it was sealed: verify it")
        }
    }

    // MARK: Taking out

    /// Seals what is left of a log and takes all of it out, behind a checkpoint. What waits for another
    /// sealer stays; returns whether nothing is left.
    func close(_ chain: UniqueID) async throws -> Bool {
        try await seal(chain)
        // What a checkpoint stands for is not seen again: it has to hold now. So has a log of which nothing
        // is left: somebody else may have taken it out.
        if let (fault, _) = try await fault(of: chain) {
            throw AccessError(
                .alteredRow, "what is to be erased waits, since its log does not hold: \(fault)")
        }
        guard let head = try await ledger.auditHead(of: chain) else { return true }
        try await prune(head)
        return try await ledger.auditHead(of: chain) == nil
    }

    /// What is wrong with a log, and how many entries it had; `nil` if it holds.
    private func fault(of chain: UniqueID) async throws -> (Fault, count: Int)? {
        var last: (Fault, count: Int)?
        // Another process may take it out between the look at its checkpoint and that at its entries.
        for _ in 0..<2 {
            let (heads, checkpoints) = try await known()
            var report = Report()
            guard let fault = try await verify(chain, checkpoints[chain], heads[chain], &report) else {
                return nil
            }
            last = (fault, max(heads[chain]?.count ?? 0, try await ledger.auditHead(of: chain)?.count ?? 0))
        }
        return last
    }

    /// Takes out of every log what is older than a time. A log that is not as it was sealed is left as it is,
    /// and told.
    package func prune(before time: Instant) async throws -> Report {
        var report = Report()
        let (heads, checkpoints) = try await known()
        for chain in try await ledger.auditHeads().map(\.chain).sorted() {
            report.chains += 1
            guard let end = try await ledger.auditHead(of: chain, before: time) else { continue }
            // What a checkpoint stands for is not seen again: it has to hold now.
            var verified = Report()
            if let fault = try await verify(chain, checkpoints[chain], heads[chain], &verified) {
                report.faults.append(fault)
                continue
            }
            report.entries += try await prune(end)
        }
        return report
    }

    /// Takes out a log that does not hold, of what is being erased. What is wrong with it stands in the
    /// platform's log, with how many entries it had under a MAC: by that the kept head is let go.
    func discard(_ chain: UniqueID) async throws -> Fault {
        guard let (fault, count) = try await fault(of: chain) else {
            throw AccessError(.conflict, "the log holds: it goes with what is being erased")
        }
        let head = AuditHead(chain: chain, count: count, mac: [])
        let mac = seals.seal { Self.parts(ofDiscarded: head, keyID: $0) }
        while try await ledger.discardAudit(
            of: head, mac: mac, fault: fault.description, limit: Self.prunedMax) == Self.prunedMax
        {}
        return fault
    }

    @discardableResult
    private func prune(_ head: AuditHead) async throws -> Int {
        let mac = seals.seal { Self.parts(of: head, keyID: $0) }
        guard try await ledger.checkpointAudit(head, mac: mac) else { throw AccessError.changedMeanwhile }
        var count = 0
        while true {
            let gone = try await ledger.pruneAudit(of: head.chain, limit: Self.prunedMax)
            count += gone
            if gone < Self.prunedMax { return count }
        }
    }

    private static let prunedMax = 10_000

    /// Of heads that were kept of logs that are not there, those that went with what they were of, or as they
    /// did not hold, as the platform's log says under a MAC.
    private func erased(_ heads: [AuditHead]) async throws -> Set<UniqueID> {
        let counts = Dictionary(heads.map { ($0.chain, $0.count) }) { first, _ in first }
        guard !counts.isEmpty else { return [] }
        let said = try await ledger.erasedLogs(Array(counts.keys))
        return Set(
            said.filter { said in
                said.head.count >= counts[said.head.chain] ?? .max
                    && seals.holds(said.mac) {
                        said.isDiscarded
                            ? Self.parts(ofDiscarded: said.head, keyID: $0)
                            : Self.parts(of: said.head, keyID: $0)
                    }
            }.map(\.head.chain))
    }

    private func mac(_ entry: AuditEntry, _ position: Int, _ previous: [UInt8]) -> RowMAC {
        seals.seal { entry.sealedParts(position: position, after: previous, keyID: $0) }
    }

    // MARK: Verifying

    /// Reads all that is sealed and names the first entry of each log that is not as it was sealed.
    package func verify() async throws -> Report {
        var report = Report()
        let (heads, checkpoints) = try await known()
        let there = Set(try await ledger.auditHeads().map(\.chain))
        let gone = try await erased(heads.values.filter { !there.contains($0.chain) })
        for chain in there.union(heads.keys).subtracting(gone).sorted() {
            report.chains += 1
            if let fault = try await verify(chain, checkpoints[chain], heads[chain], &report) {
                report.faults.append(fault)
            }
        }
        return report
    }

    /// The heads that were kept outside, and the checkpoints.
    private func known() async throws -> (
        heads: [UniqueID: AuditHead], checkpoints: [UniqueID: (head: AuditHead, mac: RowMAC)]
    ) {
        let heads = Dictionary(try store.read().map { ($0.chain, $0) }) { first, _ in first }
        let checkpoints = try await ledger.auditCheckpoints().map { ($0.head.chain, $0) }
        return (heads, Dictionary(checkpoints) { first, _ in first })
    }

    private func verify(
        _ chain: UniqueID, _ checkpoint: (head: AuditHead, mac: RowMAC)?, _ head: AuditHead?,
        _ report: inout Report
    ) async throws -> Fault? {
        guard let checkpoint else {
            let start = AuditHead(chain: chain, count: 0, mac: [])
            return try await verify(chain, from: start, head: head, &report.entries)
        }
        guard seals.holds(checkpoint.mac, { Self.parts(of: checkpoint.head, keyID: $0) }) else {
            return Fault(
                chain: chain, position: checkpoint.head.count,
                reason: "the checkpoint was made or altered outside the API")
        }
        return try await verify(chain, from: checkpoint.head, head: head, &report.entries)
    }

    private func holds(_ head: AuditHead, _ mac: RowMAC) -> Bool {
        seals.holds(mac) { Self.parts(of: head, keyID: $0) }
    }

    /// What the MAC covers by which a log that did not hold is let go.
    private static func parts(ofDiscarded head: AuditHead, keyID: String) -> [[UInt8]] {
        [
            Array("audit_discarded".utf8), Array(keyID.utf8), head.chain.bytes,
            Array(String(head.count).utf8),
        ]
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
