package import Domain
import Synchronization

/// What a process has counted of the tasks that its pools do.
package final class TaskMetrics: Sendable {
    private struct Work: Sendable {
        var begun = 0
        var ends: [String: Int] = [:]
        var waits = Histogram()
        var times = Histogram()
        var running = 0
    }

    private let state = Mutex<[TaskKind: Work]>([:])

    /// How an attempt ends: the outcomes, and what is no end of a task.
    static let ends = [
        "succeeded", "failed", "timedOut", "cancelled", "repeated", "givenBack", "late",
    ]

    /// Nothing counted yet.
    package init() {}

    /// A handler begins.
    func began(_ kind: TaskKind, waitedSeconds: Double) {
        state.withLock {
            $0[kind, default: Work()].begun += 1
            $0[kind, default: Work()].running += 1
            $0[kind, default: Work()].waits.count(waitedSeconds)
        }
    }

    /// A handler's attempt is over; without a time it was not measured.
    func ended(_ kind: TaskKind, _ end: String, seconds: Double?) {
        state.withLock {
            $0[kind, default: Work()].ends[end, default: 0] += 1
            $0[kind, default: Work()].running -= 1
            if let seconds { $0[kind, default: Work()].times.count(seconds) }
        }
    }

    /// How many attempts have ended so.
    package func count(_ kind: TaskKind, _ end: String) -> Int { state.withLock { $0[kind]?.ends[end] ?? 0 } }

    /// Adds all to what is shown, of every kind that the process works on.
    package func show(in text: inout Exposition) {
        for (kind, work) in state.withLock({ $0.sorted { $0.key.name < $1.key.name } }) {
            text.add(.taskAttempts, [kind.name], Double(work.begun))
            text.add(.tasksRunning, [kind.name], Double(work.running))
            for end in Self.ends {
                text.add(.taskEnds, [kind.name, end], Double(work.ends[end] ?? 0))
            }
            text.add(.taskWaits, [kind.name], work.waits)
            text.add(.taskTimes, [kind.name], work.times)
        }
    }
}
