import Logging

/// Repeats a step until the task is cancelled: soon again while there is work, later when there is none, and
/// with a growing wait after errors.
func repeating(
    every busy: Duration, idle: Duration, _ logger: Logger, _ name: String, _ step: () async throws -> Bool
) async {
    var failures = 0
    while !Task.isCancelled {
        var wait = idle
        do {
            if try await step() { wait = busy }
            failures = 0
        } catch is CancellationError {
            return
        } catch {
            guard !Task.isCancelled else { return }
            failures += 1
            wait = min(.seconds(5), .milliseconds(100) * min(failures, 50))
            logger.warning(
                "upkeep goes on after an error", metadata: ["step": "\(name)", "error": "\(error)"])
        }
        // Cancellation ends the wait early, which is what is wanted.
        try? await Task.sleep(for: wait)
    }
}
