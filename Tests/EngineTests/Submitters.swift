import Domain
import Engine
import Ledger
import TestSupport
import Trust
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

extension Signer {
    /// A signer whose other keys nobody has.
    static func fresh(deployment: DeploymentID, jobKey: SigningKey) throws -> Signer {
        try made(
            deployment: deployment, jobKey: jobKey,
            serverCA: CertificateAuthority.make(commonName: "s", validitySeconds: 60).certificate,
            deviceCA: .make(commonName: "d", validitySeconds: 60))
    }
}

extension Bench {
    /// A submitter of an installation and a key, or of fresh ones.
    func submitter(
        deployment: DeploymentID = TestSupport.fresh(), jobKey: SigningKey = SigningKey()
    ) throws -> Submitter {
        Submitter(
            ledger: world.api, signer: try .fresh(deployment: deployment, jobKey: jobKey),
            judge: World.judge, front: front, keys: World.sealing, logger: .quiet)
    }
}
