package import Domain
import Ledger
import Signing
package import Trust
import Wire

/// What the API role signs with: the job key, for everything that gives a device power.
///
/// Held by the API role alone, in files; nothing of it is in PostgreSQL or Redis. The key set that says which
/// keys hold was signed by the root key, which need not be on this host.
package struct Signer: Sendable {
    /// The installation that every statement names.
    package let deployment: DeploymentID
    /// Signs jobs, assignments and tokens.
    private let signingKey: JobKey
    /// The key that verifies what is signed from now on, and all those whose statements still hold.
    package let jobKey: VerifyingKey
    package let jobKeys: [VerifyingKey]
    /// The public root key that agents pin.
    package let rootKey: VerifyingKey
    /// The key set in force, and its version.
    package let keySet: SignedStatement
    package let keySetVersion: Int
    /// The two authorities.
    package let serverCA: Certificate
    let deviceCA: CertificateAuthority

    /// The keys of an installation, with the key set that the root key has signed for them.
    /// - Throws: `TrustError` where the set does not hold now under the root key; `invalid` where it does not
    ///   name the job key and both authorities.
    package init(
        deployment: DeploymentID, rootKey: VerifyingKey, keySet: SignedStatement, jobKey: SigningKey,
        serverCA: Certificate, deviceCA: CertificateAuthority, now: Instant
    ) throws {
        try self.init(
            deployment: deployment, rootKey: rootKey, keySet: keySet, signingKey: JobKey(jobKey),
            serverCA: serverCA, deviceCA: deviceCA, now: now)
    }

    private init(
        deployment: DeploymentID, rootKey: VerifyingKey, keySet: SignedStatement, signingKey: JobKey,
        serverCA: Certificate, deviceCA: CertificateAuthority, now: Instant
    ) throws {
        let statement = try keySet.verified(
            as: .keySet, by: [rootKey], deployment: deployment.bytes, now: now.seconds, organization: nil)
        let payload = try KeySetPayload.decode(statement.payload)
        jobKeys = try payload.jobKeys.map { try VerifyingKey(bytes: $0.bytes) }
        jobKey = signingKey.publicKey
        guard jobKeys.contains(jobKey), payload.serverCA == serverCA.pem,
            payload.deviceCA == deviceCA.certificate.pem
        else {
            throw EngineError(
                .invalid,
                "key set \(payload.version) does not name the job key \(jobKey.id) and both authorities"
            )
        }
        self.deployment = deployment
        self.signingKey = signingKey
        self.rootKey = rootKey
        self.keySet = keySet
        keySetVersion = payload.version
        self.serverCA = serverCA
        self.deviceCA = deviceCA
    }

    /// The same keys with a key set that was published since; throws as `init`.
    package func adopting(keySet: SignedStatement, now: Instant) throws -> Signer {
        try Signer(
            deployment: deployment, rootKey: rootKey, keySet: keySet, signingKey: signingKey,
            serverCA: serverCA, deviceCA: deviceCA, now: now)
    }

    /// The id of the key that signs, as statements name it: 8 bytes.
    var jobKeyID: [UInt8] { Array(SHA256.hash(jobKey.bytes).prefix(8)) }

    /// A key set to be signed by the root key: these job keys and authorities hold then, and no other.
    package static func keySet(
        version: Int, jobKeys: [VerifyingKey], serverCA: Certificate, deviceCA: Certificate,
        deployment: DeploymentID, now: Instant
    ) -> Statement {
        Statement(
            type: .keySet, deployment: deployment.bytes, issuedAt: now.seconds,
            expiresAt: now.seconds + keySetSeconds,
            payload: KeySetPayload(
                version: version, jobKeys: jobKeys.map(\.bytes), serverCA: serverCA.pem,
                deviceCA: deviceCA.pem
            ).json)
    }

    /// Signs a job for an organization.
    func sign(_ job: JobPayload, organization: OrganizationID, now: Instant, expiresAt: Instant)
        -> SignedStatement
    {
        sign(.job, job.json, organization: organization, now: now, expiresAt: expiresAt)
    }

    /// Signs an enrolment token.
    func sign(_ token: TokenPayload, organization: OrganizationID, now: Instant, expiresAt: Instant)
        -> SignedStatement
    {
        sign(.enrolmentToken, token.json, organization: organization, now: now, expiresAt: expiresAt)
    }

    /// Signs where a device belongs.
    func sign(_ assignment: AssignmentPayload, organization: OrganizationID, now: Instant) -> SignedStatement
    {
        sign(
            .assignment, assignment.json, organization: organization, now: now,
            expiresAt: now + .seconds(Self.assignmentSeconds))
    }

    /// A certificate for the key of a request, in a device's name.
    func certificate(
        for request: CertificateRequest, device: DeviceID, of organization: OrganizationID, now: Instant
    ) throws(TrustError) -> Certificate {
        try deviceCA.issueDevice(
            request: request, deviceURI: "cloudrmm://\(deployment)/device/\(organization)/\(device)",
            now: now.seconds)
    }

    /// Signs what an export holds.
    func sign(_ seal: ExportSeal, organization: OrganizationID, now: Instant) -> SignedStatement {
        sign(
            .export, seal.json, organization: organization, now: now,
            expiresAt: now + .seconds(Self.assignmentSeconds))
    }

    /// The statement of a token's text, if this installation signed it and it has not expired.
    func verify(token text: String, now: Instant) throws(TrustError) -> (
        statement: Statement, encoded: [UInt8]
    ) {
        let signed = try SignedStatement(text: text)
        let statement = try signed.verified(
            as: .enrolmentToken, by: jobKeys, deployment: deployment.bytes, now: now.seconds,
            organization: nil)
        return (statement, signed.encoded)
    }

    /// What this installation has signed for a device, if that is what the rows say: nothing is taken from a
    /// row that is signed again, or that power is given by.
    /// - Throws: `alteredRow`.
    func verified(_ assigned: Assigned, now: Instant) throws(EngineError) -> AssignmentPayload {
        let held: AssignmentPayload
        do {
            let statement = try SignedStatement(encoded: assigned.assignment).verified(
                as: .assignment, by: jobKeys, deployment: deployment.bytes, now: now.seconds,
                organization: assigned.organization.bytes)
            held = try AssignmentPayload.decode(statement.payload)
        } catch {
            throw EngineError(.alteredRow, "the assignment of a device does not hold: \(error)")
        }
        guard held.device == assigned.device, held.site == assigned.site, held.version == assigned.version
        else {
            throw EngineError(.alteredRow, "the assignment of a device is another one than its row says")
        }
        return held
    }

    private func sign(
        _ type: StatementType, _ payload: [UInt8], organization: OrganizationID, now: Instant,
        expiresAt: Instant
    ) -> SignedStatement {
        SignedStatement.sign(
            Statement(
                type: type, deployment: deployment.bytes, organization: organization.bytes,
                issuedAt: now.seconds,
                expiresAt: max(expiresAt.seconds, now.seconds + 1), payload: payload),
            with: signingKey)
    }

    // Ten years: key sets and assignments are replaced by higher versions, not by running out.
    private static let keySetSeconds: Int64 = 315_360_000
    private static let assignmentSeconds = 315_360_000
}
