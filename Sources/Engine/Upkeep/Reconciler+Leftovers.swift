import Domain
import Ledger

extension Reconciler {
    /// Looks through all that jobs leave behind them, a page at a time: every minute from the start.
    func leftovers() async {
        var slot: SlotPlace?
        var pause: (OrganizationID, JobID)?
        await repeating(every: .milliseconds(200), idle: .seconds(60), logger, "leftovers") {
            slot = try await self.ledger.removeSlots(after: slot ?? .start).next
            pause = try await self.ledger.forgetPauses(after: pause)
            return slot != nil || pause != nil
        }
    }
}
