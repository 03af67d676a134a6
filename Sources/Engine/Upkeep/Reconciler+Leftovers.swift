import Domain
import Ledger

extension Reconciler {
    /// Looks through all that jobs leave behind them, a page at a time: every minute from the start.
    func leftovers() async {
        await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.slots() }
            group.addTask { await self.notesOfPauses() }
        }
    }

    private func slots() async {
        var place: SlotPlace?
        await repeating(every: .milliseconds(200), idle: .seconds(60), logger, "slots") {
            place = try await self.ledger.removeSlots(after: place ?? .start).next
            return place != nil
        }
    }

    private func notesOfPauses() async {
        var last: (OrganizationID, JobID)?
        await repeating(every: .milliseconds(200), idle: .seconds(60), logger, "notes of pauses") {
            last = try await self.ledger.forgetPauses(after: last)
            return last != nil
        }
    }
}
