import Domain
import Ledger
import Logging
import Wire

/// What the gateway says of single attempts, for whoever follows a trace.
extension Gateway {
    /// An attempt is handed to its device's session.
    func note(_ delivery: Delivery, _ trace: TraceContext?) {
        guard logger.logLevel <= .debug else { return }
        var metadata: Logger.Metadata = [
            "organization.id": "\(delivery.organization)", "job.id": "\(delivery.job)",
            "run.id": "\(delivery.run)", "attempt": "\(delivery.attempt)", "device.id": "\(delivery.device)",
        ]
        if let trace { metadata["trace"] = "\(trace.traceID)" }
        logger.debug("run sent", metadata: metadata)
    }

    /// A device has said something of an attempt. The trace is its word, so it stands under another key than
    /// those that the server knows.
    func note(_ frame: AgentFrame, _ session: Session) {
        guard logger.logLevel <= .debug, let name = frame.name, let word = frame.word else { return }
        var metadata: Logger.Metadata = [
            "organization.id": "\(session.organization)", "device.id": "\(session.device)",
            "run.id": "\(name.run)", "attempt": "\(name.attempt)", "word": "\(word)",
        ]
        if let trace = frame.trace { metadata["trace.agent"] = "\(trace.traceID)" }
        logger.debug("word of a run", metadata: metadata)
    }
}
