import Domain
package import Ledger
import Postgres

/// Erases partners and organizations: rows in steps, then their logs behind a checkpoint, at last the row
/// itself with an entry in the platform's log. Any number of processes do it; a crash leaves it where it was.
package struct Eraser: Sendable {
    private let ledger: Ledger
    private let sealer: AuditSealer
    private static let rows = 2_000
    private static let erasuresMax = 100

    /// An eraser that takes logs out through a sealer.
    package init(ledger: Ledger, sealer: AuditSealer) { (self.ledger, self.sealer) = (ledger, sealer) }

    /// Looks once a second for what is to be erased, until it is cancelled; `onFailure` hears of what fails,
    /// which is tried again.
    package func run(onFailure: @Sendable (any Error) -> Void) async throws {
        while true {
            do {
                try await eraseAll()
            } catch {
                if error is CancellationError { throw error }
                onFailure(error)
            }
            try await Task.sleep(for: .seconds(1))
        }
    }

    /// Erases all that is to be erased; what somebody else is at, or what gets new rows while it goes, is
    /// left for later. One that fails does not hold up the others.
    /// - Throws: the first failure, after all were tried.
    package func eraseAll() async throws {
        var failure: (any Error)?
        for erasure in try await ledger.erasures(limit: Self.erasuresMax, scope: .platform) {
            do { try await erase(erasure) } catch { failure = failure ?? error }
        }
        if let failure { throw failure }
    }

    private func erase(_ erasure: ErasureRow) async throws {
        while let count = try await ledger.eraseStep(erasure.id, limit: Self.rows) {
            try Task.checkCancellation()
            guard count == 0 else { continue }
            if try await sealer.close(erasure.id) { _ = try await ledger.eraseEnd(erasure.id) }
            return
        }
    }
}
