import Domain
import Engine
import Ledger
import Wire

extension Submitter {
    /// Submits without a guard.
    func submit(
        _ requests: [JobRequest], by principal: PrincipalID, level: Level
    ) async throws -> [Result<AcceptedJob, EngineError>] {
        try await submit(requests, by: principal, level: level, secrets: { nil }, under: .none)
    }

    /// Repeats dead letters without a guard.
    func redrive(
        _ letters: [DeadLetterRow], by principal: PrincipalID, level: Level
    ) async throws -> [Redriven] {
        try await redrive(letters, by: principal, level: level, secrets: { nil }, under: .none)
    }

    /// Repeats a job without a guard.
    func retry(
        _ job: JobID, idempotencyKey: String?, by principal: PrincipalID, level: Level
    ) async throws -> AcceptedJob {
        try await retry(
            job, idempotencyKey: idempotencyKey, by: principal, level: level, secrets: { nil }, under: .none)
    }
}
