package import Domain
package import Ledger
import Postgres

/// Erases partners and organizations: rows in steps, then their logs behind a checkpoint, at last the row
/// itself with an entry in the platform's log. Any number of processes do it; a crash leaves it where it was.
package struct Eraser: Sendable {
    private let ledger: Ledger
    private let sealer: AuditSealer
    private let seals: RowSeals
    private static let rows = 2_000
    private static let page = 100

    /// An eraser that believes what is sealed, and takes logs out through a sealer.
    package init(ledger: Ledger, sealer: AuditSealer, seals: RowSeals) {
        (self.ledger, self.sealer, self.seals) = (ledger, sealer, seals)
    }

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
        var last = UniqueID.zero
        while true {
            let page = try await ledger.erasures(after: last, limit: Self.page, scope: .platform)
            for erasure in page {
                do { try await erase(erasure) } catch { failure = failure ?? error }
            }
            guard page.count == Self.page, let end = page.last else { break }
            last = end.id
        }
        if let failure { throw failure }
    }

    private func erase(_ erasure: ErasureRow) async throws {
        try require(erasure)
        while let count = try await ledger.eraseStep(erasure.id, limit: Self.rows) {
            try Task.checkCancellation()
            guard count == 0 else { continue }
            // A log that was taken out as it did not hold has no end that could be closed.
            let isClosed = erasure.isWithoutLog ? true : try await sealer.close(erasure.id)
            if isClosed { _ = try await ledger.eraseEnd(erasure.id) }
            return
        }
    }

    /// Takes out the log of what is being erased although it does not hold, for which its erasure waits. The
    /// platform's log keeps what is wrong with it.
    /// - Returns: what that is.
    /// - Throws: `notFound` if nothing of that id is being erased, `conflict` if its log holds.
    package func discardLog(of id: UniqueID) async throws -> AuditSealer.Fault {
        guard let erasure = try await ledger.erasure(id, scope: .platform) else {
            throw AccessError(.notFound, "nothing of this id is being erased")
        }
        try require(erasure)
        return try await sealer.discard(id)
    }

    private func require(_ erasure: ErasureRow) throws(AccessError) {
        guard seals.holds(erasure.mac, erasure.sealedParts) else {
            throw AccessError(
                .alteredRow, "the erasure of \(erasure.id) was asked for outside the API, so it waits")
        }
    }
}
