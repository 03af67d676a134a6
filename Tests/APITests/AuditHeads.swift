import Access
import Ledger
import Synchronization
import Trust

/// A place in memory where a sealer keeps the heads of logs.
final class AuditHeads: Sendable {
    private let kept = Mutex<[AuditHead]>([])

    /// Those that are kept.
    var all: [AuditHead] { kept.withLock { $0 } }

    /// Under the key of the tests' API.
    func seals() throws -> RowSeals {
        RowSeals(key: try MACKey(bytes: Array(repeating: 7, count: 32)), keyID: "k1")
    }

    /// A sealer with the API's login, or another.
    func sealer(_ api: TestAPI, _ ledger: Ledger? = nil) throws -> AuditSealer {
        AuditSealer(
            ledger: ledger ?? api.ledger, seals: try seals(),
            store: AuditSealer.Store(
                read: { self.all }, write: { new in self.kept.withLock { $0 = new } }))
    }
}
