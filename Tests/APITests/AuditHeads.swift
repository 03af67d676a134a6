import Access
import Ledger
import Synchronization
import Trust

/// A place in memory where a sealer keeps the heads of logs.
final class AuditHeads: Sendable {
    private let kept = Mutex<[AuditHead]>([])

    /// Those that are kept.
    var all: [AuditHead] { kept.withLock { $0 } }

    /// A sealer under the key of the tests' API.
    func sealer(_ api: TestAPI) throws -> AuditSealer {
        let key = try MACKey(bytes: Array(repeating: 7, count: 32))
        return AuditSealer(
            ledger: api.ledger, seals: RowSeals(key: key, keyID: "k1"),
            store: AuditSealer.Store(
                read: { self.all }, write: { new in self.kept.withLock { $0 = new } }))
    }
}
