import Logging

/// Repeats a step until the task is cancelled: soon again while there is work, later when there is none (the
/// longer, the longer the step took, if that is asked for) or when it is woken, and with a growing wait after
/// errors. Trouble is said once when it begins and once when it has passed.
func repeating(
    every busy: Duration, idle: Duration, timesTook factor: Int = 0, wokenBy wake: Wake? = nil,
    _ logger: Logger, _ name: String, _ step: () async throws -> Bool
) async {
    var trouble = Trouble(name: name, logger: logger)
    while !Task.isCancelled {
        var wait = busy
        do {
            let began = ContinuousClock.now
            let hasMore = try await step()
            trouble.passed()
            if !hasMore {
                wait = idleWait(idle, timesTook: factor, .now - began)
                if let wake {
                    await wake.wait(atMost: wait)
                    continue
                }
            }
        } catch is CancellationError {
            return
        } catch {
            guard !Task.isCancelled else { return }
            wait = trouble.met(error)
        }
        // Cancellation ends the wait early, which is what is wanted.
        if wait > .zero { try? await Task.sleep(for: wait) }
    }
}

/// The wait after a step that found nothing and took so long: at least `idle`, at most two seconds for what
/// it took.
func idleWait(_ idle: Duration, timesTook factor: Int, _ took: Duration) -> Duration {
    max(idle, min(.seconds(2), took * factor))
}

/// Does work that a cancellation breaks off only after a grace: what was begun is to be taken to its end, but
/// a server that hangs must not hold up a stop.
func withGrace<Value: Sendable>(
    _ grace: Duration, _ work: @escaping @Sendable () async throws -> Value
) async throws -> Value {
    let task = Task { try await work() }
    return try await withTaskCancellationHandler {
        try await task.value
    } onCancel: {
        Task {
            // Nobody cancels this task.
            try? await Task.sleep(for: grace)
            task.cancel()
        }
    }
}

/// A run of failures of one step.
struct Trouble {
    let name: String
    let logger: Logger
    private var failures = 0

    init(name: String, logger: Logger) {
        self.name = name
        self.logger = logger
    }

    /// Notes a failure; returns how long to wait before the next try.
    mutating func met(_ error: any Error) -> Duration {
        failures += 1
        let level: Logger.Level = failures == 1 ? .warning : .debug
        logger.log(
            level: level, "a step fails and is tried again",
            metadata: ["step": "\(name)", "error": "\(error)"])
        return min(.seconds(2), .milliseconds(100) * min(failures, 20))
    }

    /// Notes that the step has worked.
    mutating func passed() {
        if failures > 0 {
            logger.notice("a step works again", metadata: ["step": "\(name)", "failures": "\(failures)"])
        }
        failures = 0
    }
}
