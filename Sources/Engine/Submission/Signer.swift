package import Domain
import Signing
package import Trust
import Wire

/// What the API role signs with: the job key for everything that gives a device power, the root key only for
/// the key set.
///
/// Held by the API role alone, in files; nothing of it is in PostgreSQL or Redis.
package struct Signer: Sendable {
    /// The installation that every statement names.
    package let deployment: DeploymentID
    /// Signs jobs, assignments and tokens; and what verifies them.
    private let signingKey: JobKey
    let jobKey: VerifyingKey
    /// The public root key that agents pin.
    package let rootKey: VerifyingKey
    /// The key set in force, signed by the root key when it was made.
    package let keySet: SignedStatement
    /// The two authorities.
    package let serverCA: Certificate
    let deviceCA: CertificateAuthority

    /// The keys of an installation; the key set is signed anew, so that it says what is in force now.
    package init(
        deployment: DeploymentID, rootKey: SigningKey, jobKey: SigningKey, keySetVersion: Int,
        serverCA: Certificate,
        deviceCA: CertificateAuthority, now: Instant
    ) {
        self.deployment = deployment
        signingKey = JobKey(jobKey)
        self.jobKey = jobKey.publicKey
        self.rootKey = rootKey.publicKey
        self.serverCA = serverCA
        self.deviceCA = deviceCA
        let payload = KeySetPayload(
            version: keySetVersion, jobKeys: [jobKey.publicKey.bytes], serverCA: serverCA.pem,
            deviceCA: deviceCA.certificate.pem)
        keySet = SignedStatement.sign(
            Statement(
                type: .keySet, deployment: deployment.bytes, issuedAt: now.seconds,
                expiresAt: now.seconds + Self.keySetSeconds,
                payload: payload.json),
            with: rootKey)
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
            as: .enrolmentToken, by: [jobKey], deployment: deployment.bytes, now: now.seconds,
            organization: nil)
        return (statement, signed.encoded)
    }

    /// The content of an assignment that this installation signed for a device of an organization.
    func verify(
        assignment encoded: [UInt8], of organization: OrganizationID, now: Instant
    ) throws -> AssignmentPayload {
        let statement = try SignedStatement(encoded: encoded).verified(
            as: .assignment, by: [jobKey], deployment: deployment.bytes, now: now.seconds,
            organization: organization.bytes)
        return try AssignmentPayload.decode(statement.payload)
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
