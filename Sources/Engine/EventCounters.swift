import Synchronization

/// What a part of a process has counted since it began, by the name of the event.
///
/// Names are the code's own: nothing that a caller or an agent says becomes one, so their number is bounded.
package final class EventCounters: Sendable {
    private let counts = Mutex<[String: Int]>([:])

    /// Nothing counted yet.
    package init() {}

    /// The counts by name.
    package var snapshot: [String: Int] { counts.withLock { $0 } }

    /// Counts an event, or so many.
    package func increment(_ name: String, by n: Int = 1) {
        counts.withLock { $0[name, default: 0] += n }
    }
}
