package import Domain
package import Ledger
package import Logging
import Postgres
package import Trust
import Wire

/// Seals secrets to devices' keys for gateways that are about to send a job. It stands in the role api, which
/// alone has the key of stored secrets: a gateway, and whoever reads PostgreSQL, gets what only the device
/// opens.
///
/// A request says nothing that is believed. The job must hold by its signature, name the secrets and include
/// the device; the device must have the key that its signed assignment names; each value must be the one
/// whose hash was signed. So nobody who writes requests, jobs or devices is given a value for a key of his
/// own.
package struct SecretSealer: Sendable {
    private let ledger: Ledger
    private let signer: Signer
    private let keys: SealingKeys
    private let isRevoked: @Sendable (DeviceID) async throws -> Bool
    private let logger: Logger

    /// A sealer on the API's login, which asks `isRevoked` for what a row of the database may not undo.
    package init(
        ledger: Ledger, signer: Signer, keys: SealingKeys,
        isRevoked: @escaping @Sendable (DeviceID) async throws -> Bool, logger: Logger
    ) {
        (self.ledger, self.signer, self.keys, self.logger) = (ledger, signer, keys, logger)
        self.isRevoked = isRevoked
    }

    /// Answers until the task is cancelled: a tenth of a second after a request at the latest. Any number of
    /// processes may; two that answer the same one answer alike, and the first counts.
    package func run() async {
        await withTaskGroup(of: Void.self) { tasks in
            tasks.addTask {
                await repeating(every: .zero, idle: .milliseconds(100), logger, "secrets for devices") {
                    try await answerOnce()
                }
            }
            tasks.addTask {
                await repeating(every: .zero, idle: .seconds(10), logger, "secrets that nobody took") {
                    _ = try await ledger.pruneSecretRequests()
                    return false
                }
            }
        }
    }

    /// Answers a batch; returns whether there may be more.
    package func answerOnce() async throws -> Bool {
        let open = try await ledger.openSecretRequests(limit: Self.limit)
        guard !open.isEmpty else { return false }
        var judged: [(open: OpenSecretRequest, wanted: Result<[Wanted], Refused>)] = []
        for one in open {
            let isOver = try await isRevoked(one.request.device)
            judged.append(
                (
                    one,
                    Result { () throws(Refused) in
                        if isOver { throw Refused("the device's certificates are revoked") }
                        return try wanted(by: one, now: .now())
                    }
                ))
        }
        let ids = Set(judged.flatMap { item in (try? item.wanted.get())?.map(\.secret.id) ?? [] })  // refused
        let rows = try await ledger.secrets(Array(ids), scope: .platform)
        var answers: [(request: SecretRequest, answer: SecretAnswer)] = []
        for (open, wanted) in judged {
            do throws(Refused) {
                let sealed = try wanted.get().map { wanted throws(Refused) in try seal(wanted, rows) }
                answers.append((open.request, .sealed(sealed)))
            } catch {
                logger.notice(
                    "a device is not given the secrets of its job",
                    metadata: [
                        "run.id": "\(open.request.run)", "device.id": "\(open.request.device)",
                        "reason": "\(error.reason)",
                    ])
                answers.append((open.request, .refused(error.reason)))
            }
        }
        try await ledger.answer(answers)
        return open.count >= Self.limit
    }

    /// A value for a device.
    struct Wanted: Sendable {
        let secret: SignedSecret
        let key: P256PublicKey
        let parts: [[UInt8]]
    }

    /// Why there is no answer with values.
    struct Refused: Error {
        let reason: String

        init(_ reason: String) { self.reason = reason }
    }

    /// What a request may have by what was signed.
    func wanted(by open: OpenSecretRequest, now: Instant) throws(Refused) -> [Wanted] {
        let request = open.request
        guard let content = open.content, let assigned = open.assignment else {
            throw Refused("there is no such job with secrets, or no such device")
        }
        let (job, assignment): (JobPayload, AssignmentPayload)
        let key: P256PublicKey
        do {
            job = try JobPayload.decode(
                verified(content.statement, .job, request.organization, now).payload)
            assignment = try AssignmentPayload.decode(
                verified(assigned, .assignment, request.organization, now).payload)
            key = try P256PublicKey(der: request.deviceKey)
        } catch {
            throw Refused("the job or the device's assignment does not hold: \(error)")
        }
        guard job.job == request.job, assignment.device == request.device else {
            throw Refused("the job or the assignment is another one's")
        }
        guard assignment.keyHash.bytes == key.hash else {
            throw Refused("the device has shown another key than its assignment names")
        }
        guard Self.includes(job.target, content.devices, request, assignment) else {
            throw Refused("the job is not for this device")
        }
        guard let secrets = job.secrets(at: assignment.site), !secrets.isEmpty else {
            throw Refused("the job was not signed for a secret of the device's site")
        }
        return secrets.map { secret in
            Wanted(
                secret: secret, key: key,
                parts: secret.sealedParts(
                    deployment: signer.deployment, organization: request.organization, job: request.job,
                    device: request.device))
        }
    }

    private func verified(
        _ encoded: [UInt8], _ type: StatementType, _ organization: OrganizationID, _ now: Instant
    ) throws -> Statement {
        try SignedStatement(encoded: encoded).verified(
            as: type, by: signer.jobKeys, deployment: signer.deployment.bytes, now: now.seconds,
            organization: organization.bytes)
    }

    private static func includes(
        _ target: SignedTarget, _ listed: [DeviceID]?, _ request: SecretRequest,
        _ assignment: AssignmentPayload
    ) -> Bool {
        switch target {
        case .organization: return true
        case .site(let site): return site == assignment.site
        case .list(let root, let size):
            // A list of one is not kept.
            let devices = listed ?? [request.device]
            guard devices.count == size, devices.contains(request.device) else { return false }
            let leaves = devices.map { SignedTarget.leaf(organization: request.organization, device: $0) }
            return MerkleTree(leaves: leaves).root == root
        }
    }

    private func seal(_ wanted: Wanted, _ rows: [SecretID: SecretRow]) throws(Refused) -> [UInt8] {
        let secret = wanted.secret
        guard let row = rows[secret.id] else {
            throw Refused("the secret \(secret.name) was taken away")
        }
        guard row.sealed(version: secret.version) != nil else {
            throw Refused("the secret \(secret.name) was rotated twice since; submit the job again")
        }
        do throws(TrustError) {
            let salted = try row.opened(version: secret.version, with: keys)
            guard salted.has(hash: secret.hash.bytes) else {
                throw TrustError(.badSeal, "the value is not the one that was signed for")
            }
            return try DeviceSeal.seal(salted.bytes, to: wanted.key, for: wanted.parts).bytes
        } catch {
            throw Refused("the secret \(secret.name) does not open: \(error.message)")
        }
    }

    private static let limit = 64
}
