import Domain
import Process
import Wire

/// Results on disk until the server has committed them: one file `<job>-<attempt>.json` an attempt, the frame
/// itself.
///
/// A file is durable before the journal says that the attempt ended, and is removed after the journal has
/// forgotten it, so a crash leaves at most files that the journal does not name; `sweep` removes those. All
/// calls block.
struct Outbox: Sendable {
    /// Results that may wait; beyond them no work is taken.
    static let resultsMax = 1_000
    /// Results that are sent and not acknowledged at a time.
    static let inFlightMax = 16

    let directory: String

    func write(_ key: AttemptKey, _ result: Finished) throws {
        try DurableFile.write(AgentFrame.finished(result).encoded, to: path(key))
    }

    /// The result of an attempt that the journal says has ended; without its outputs if the file cannot be
    /// read.
    func read(_ key: AttemptKey, _ name: AttemptName, _ end: AttemptEnd) -> Finished {
        do {
            let frame = try AgentFrame.decode(readFile(path(key), max: Limits.frameBytesMax))
            if case .finished(let result) = frame, result.name == name { return result }
        } catch {
            // Told to the server below: the outcome stands in the journal, only the outputs are lost.
        }
        return end.result(named: name, reason: "outputLost")
    }

    func remove(_ key: AttemptKey) throws { try removeFile(path(key)) }

    /// Removes the files of results that nobody waits for; returns a failure for each that stays.
    func sweep(keeping keys: [AttemptKey]) throws -> [ProcessError] {
        let kept = Set(keys.map { Self.file($0) })
        var failures: [ProcessError] = []
        for file in try listDirectory(directory) where !kept.contains(file) {
            do throws(ProcessError) { try removeFile("\(directory)/\(file)") } catch {
                failures.append(error)
            }
        }
        return failures
    }

    private func path(_ key: AttemptKey) -> String { "\(directory)/\(Self.file(key))" }

    private static func file(_ key: AttemptKey) -> String { "\(key).json" }
}

extension AttemptEnd {
    /// How it ended, as a result without outputs.
    func result(named name: AttemptName, reason: String) -> Finished {
        Finished(
            name: name, outcome: outcome, exitCode: exitCode, reason: reason, startedAt: startedAt,
            finishedAt: finishedAt)
    }

    /// What the journal keeps of a result.
    init(_ result: Finished) {
        self.init(
            outcome: result.outcome, exitCode: result.exitCode, reason: result.reason,
            startedAt: result.startedAt,
            finishedAt: result.finishedAt)
    }
}
