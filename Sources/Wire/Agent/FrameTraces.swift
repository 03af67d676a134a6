package import Domain

extension AgentFrame {
    /// The attempt that the message is about, if it is about one.
    package var name: AttemptName? {
        switch self {
        case .accepted(let body): body.name
        case .started(let body): body.name
        case .finished(let body): body.name
        case .rejected(let body): body.name
        case .hello, .renew, .ping: nil
        }
    }

    /// The trace that the message carries: the agent's word, which proves nothing.
    package var trace: TraceContext? {
        switch self {
        case .accepted(let body): body.trace
        case .started(let body): body.trace
        case .finished(let body): body.trace
        case .rejected(let body): body.trace
        case .hello, .renew, .ping: nil
        }
    }

    /// What the message says of its attempt.
    package var word: String? {
        switch self {
        case .accepted: "accepted"
        case .started: "started"
        case .finished: "finished"
        case .rejected: "rejected"
        case .hello, .renew, .ping: nil
        }
    }

    /// The same message with this trace.
    package func carrying(_ trace: TraceContext) -> AgentFrame {
        switch self {
        case .accepted(var body):
            body.trace = trace
            return .accepted(body)
        case .started(var body):
            body.trace = trace
            return .started(body)
        case .finished(var body):
            body.trace = trace
            return .finished(body)
        case .rejected(var body):
            body.trace = trace
            return .rejected(body)
        case .hello, .renew, .ping: return self
        }
    }
}

extension FieldReader {
    /// The trace that an object carries. Text that is none is as good as none: it stops no work.
    mutating func trace() throws(FieldError) -> TraceContext? {
        try optional("traceparent", String.self, .in(0...TraceContext.bytesMax)).flatMap { TraceContext($0) }
    }
}
