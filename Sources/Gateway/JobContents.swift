import Domain
import Ledger
import Synchronization
import Trust
import Wire

/// Statements and proofs of jobs, read once a job and kept for a while: a job for many devices is read once,
/// not once a device. Bounded by bytes; the oldest leave first.
final class JobContents: Sendable {
    /// What a dispatch needs of its job.
    struct Content: Sendable {
        /// As it stands in a frame, which is encoded once for all devices.
        let statement: Base64Bytes
        let tree: MerkleTree?
        let trace: TraceContext?
        /// Whether its script is given secrets, which come by themselves.
        let hasSecrets: Bool

        var bytes: Int { statement.bytes.count * 7 / 3 + (tree?.size ?? 0) * 64 }
    }

    private struct Kept {
        var contents: [JobID: Content] = [:]
        var order: [JobID] = []
        var bytes = 0
    }

    private let ledger: Ledger
    private let keySet: PublishedKeySet
    private let kept = Mutex(Kept())

    init(ledger: Ledger, keySet: PublishedKeySet) { (self.ledger, self.keySet) = (ledger, keySet) }

    /// The contents of jobs; those of unknown jobs are absent.
    func contents(of jobs: [(OrganizationID, JobID)]) async throws -> [JobID: Content] {
        var found = kept.withLock { kept in
            jobs.reduce(into: [JobID: Content]()) { $0[$1.1] = kept.contents[$1.1] }
        }
        let organizations = Dictionary(jobs.map { ($0.1, $0.0) }) { first, _ in first }
            .filter { found[$0.key] == nil }
        guard !organizations.isEmpty else { return found }
        let read = try await ledger.contents(of: organizations.map { ($0.value, $0.key) })
        try await keySet.meet(read.values.compactMap { Self.keyID(of: $0.statement) })
        for (job, content) in read {
            let tree = content.devices.map { devices in
                MerkleTree(
                    leaves: devices.map { SignedTarget.leaf(organization: organizations[job]!, device: $0) })
            }
            let content = Content(
                statement: .prepared(content.statement), tree: tree, trace: content.trace,
                hasSecrets: content.hasSecrets)
            found[job] = content
            keep(job, content)
        }
        return found
    }

    /// The key that a statement names. One that is damaged names none: agents refuse it.
    private static func keyID(of statement: [UInt8]) -> String? {
        // As above.
        (try? SignedStatement(encoded: statement))?.keyID(as: .job)
    }

    private func keep(_ job: JobID, _ content: Content) {
        kept.withLock { kept in
            guard kept.contents.updateValue(content, forKey: job) == nil else { return }
            kept.order.append(job)
            kept.bytes += content.bytes
            var leaving = 0
            while kept.bytes > Self.bytesMax, leaving < kept.order.count - 1 {
                kept.bytes -= kept.contents.removeValue(forKey: kept.order[leaving])?.bytes ?? 0
                leaving += 1
            }
            kept.order.removeFirst(leaving)
        }
    }

    private static let bytesMax = 32 << 20
}
