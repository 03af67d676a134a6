import Domain
import Ledger
import Trust
import Wire

/// What follows from a hello: the device's word against the server's belief. Pure.
///
/// The hello is the authority on what the device holds. Not held: the same attempt is sent again. Held, but
/// ended on the server: dropped. A journal that is shorter than it was is a restored copy: its attempts may
/// have run, so they are never sent again, and end as unknown.
struct HelloPlan: Equatable {
    /// Open attempts that the device does not hold, to be sent (again).
    var resend: [Delivery] = []
    /// Held attempts that are not open on the server.
    var drop: [AttemptName] = []
    /// Held attempts that somebody asked to cancel.
    var cancel: [AttemptName] = []
    /// Open attempts that a restored journal may have forgotten.
    var lost: [Delivery] = []
    /// Whether the journal is shorter than it was.
    var isRestored = false

    init(_ hello: Hello, open: [Delivery], amendable: [RunID: Outcome], journalPosition: Int) {
        let held = Set(hello.held)
        let ended = Set(hello.ended)
        isRestored = hello.journalPosition < journalPosition
        let openNames = Set(open.map(\.name))
        for name in hello.held where !openNames.contains(name) {
            switch amendable[name.run] {
            case nil: drop.append(name)
            case .cancelled?: cancel.append(name)
            default: break
            }
        }
        for delivery in open {
            let name = delivery.name
            if held.contains(name) {
                if delivery.cancelRequested { cancel.append(name) }
            } else if !ended.contains(name) {
                if isRestored, delivery.wasSent { lost.append(delivery) } else { resend.append(delivery) }
            }
        }
    }
}

extension Delivery {
    var name: AttemptName { AttemptName(run: run, attempt: attempt, token: token) }
}

extension AttemptResult {
    /// What an agent's finished frame says, bound to the session's device.
    init(_ finished: Finished, _ session: Session) {
        self.init(
            organization: session.organization, device: session.device, run: finished.name.run,
            attempt: finished.name.attempt, token: finished.name.token, outcome: finished.outcome,
            exitCode: finished.exitCode, reason: finished.reason, startedAt: finished.startedAt,
            finishedAt: finished.finishedAt,
            output: OutputRow(
                stdoutHead: finished.stdout.head.bytes, stdoutTail: finished.stdout.tail.bytes,
                stdoutBytes: finished.stdout.bytes, stderrHead: finished.stderr.head.bytes,
                stderrTail: finished.stderr.tail.bytes, stderrBytes: finished.stderr.bytes))
    }

    /// A dispatch that the agent refused: nothing of it ran.
    init(_ rejected: Rejected, _ session: Session) {
        let message = Array(rejected.message.utf8)
        self.init(
            organization: session.organization, device: session.device, run: rejected.name.run,
            attempt: rejected.name.attempt, token: rejected.name.token, outcome: .failed, exitCode: nil,
            reason: "rejected:\(rejected.code)", startedAt: nil, finishedAt: .now(),
            output: OutputRow(
                stdoutHead: [], stdoutTail: [], stdoutBytes: 0, stderrHead: message, stderrTail: [],
                stderrBytes: message.count))
    }

    /// An attempt that a restored journal does not know.
    init(lost delivery: Delivery, _ session: Session) {
        self.init(
            organization: session.organization, device: session.device, run: delivery.run,
            attempt: delivery.attempt,
            token: delivery.token, outcome: .unknown, exitCode: nil, reason: "journalRegress", startedAt: nil,
            finishedAt: .now(),
            output: OutputRow(
                stdoutHead: [], stdoutTail: [], stdoutBytes: 0, stderrHead: [], stderrTail: [], stderrBytes: 0
            ))
    }
}
