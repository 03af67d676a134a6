import Domain
import Wire

/// The traces that came with attempts, for the log and for what is said of them. They are not written down:
/// what the agent still has to say after a restart is said without.
struct AttemptTraces: Sendable {
    /// Whether the gateway of the session takes them.
    var areTaken = false
    private var traces: [AttemptName: TraceContext] = [:]

    /// The trace of an attempt, if it came with one.
    subscript(name: AttemptName) -> TraceContext? { traces[name] }

    /// Keeps a trace, while there is room.
    mutating func keep(_ trace: TraceContext, of name: AttemptName) {
        guard traces.count < Self.countMax || traces[name] != nil else { return }
        traces[name] = trace
    }

    /// The attempt is over.
    mutating func forget(_ name: AttemptName) { traces[name] = nil }

    /// A message as it is sent: with its attempt's trace, if the gateway takes that. A refusal is the last
    /// word of its attempt.
    mutating func carry(_ frame: AgentFrame) -> AgentFrame {
        guard let name = frame.name, let trace = traces[name] else { return frame }
        if case .rejected = frame { forget(name) }
        return areTaken ? frame.carrying(trace) : frame
    }

    /// More than a device may have open, with as many results that wait to be acknowledged.
    static let countMax = 4_096
}
