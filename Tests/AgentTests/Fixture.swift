import Domain
import Process
import Trust
import Wire

@testable import Agent

/// An installation with its keys, one device of it, and what the two would sign and say.
struct Fixture: Sendable {
    let deployment: DeploymentID
    let partner: PartnerID
    let organization: OrganizationID
    let site: SiteID
    let device: DeviceID
    let root = SigningKey()
    let signer = SigningKey()
    let key = P256Key()
    let serverCA: CertificateAuthority
    let deviceCA: CertificateAuthority
    let now: Instant

    init() throws {
        now = Instant.now()
        deployment = .new(at: now)
        partner = .new(at: now)
        organization = .new(at: now)
        site = .new(at: now)
        device = .new(at: now)
        serverCA = try .make(commonName: "server CA", validitySeconds: 86_400)
        deviceCA = try .make(commonName: "device CA", validitySeconds: 86_400)
    }

    func sign(
        _ type: StatementType, _ payload: some WireObject, by key: SigningKey? = nil,
        deployment: DeploymentID? = nil,
        organization: OrganizationID? = nil, issuedIn issue: Int64 = 0, expiresIn expiry: Int64 = 3_600
    ) -> [UInt8] {
        let statement = Statement(
            type: type, deployment: (deployment ?? self.deployment).bytes,
            organization: (organization ?? self.organization).bytes, issuedAt: now.seconds + issue,
            expiresAt: now.seconds + expiry, payload: payload.json)
        return SignedStatement.sign(statement, with: key ?? signer).encoded
    }

    func keySet(
        version: Int = 1, jobKeys: [SigningKey]? = nil, by key: SigningKey? = nil, expiresIn: Int64 = 86_400
    ) -> [UInt8] {
        let payload = KeySetPayload(
            version: version, jobKeys: (jobKeys ?? [signer]).map(\.publicKey.bytes),
            serverCA: serverCA.certificate.pem,
            deviceCA: deviceCA.certificate.pem)
        return sign(
            .keySet, payload, by: key ?? root, organization: OrganizationID(.zero), expiresIn: expiresIn)
    }

    func assignment(
        version: Int = 1, device: DeviceID? = nil, key: P256Key? = nil, site: SiteID? = nil,
        partner: PartnerID? = nil,
        organization: OrganizationID? = nil, by signer: SigningKey? = nil, expiresIn: Int64 = 86_400
    ) -> [UInt8] {
        let payload = AssignmentPayload(
            device: device ?? self.device, keyHash: (key ?? self.key).publicKeyHash,
            partner: partner ?? self.partner,
            site: site ?? self.site, version: version)
        return sign(.assignment, payload, by: signer, organization: organization, expiresIn: expiresIn)
    }

    func token(expiresIn: Int64 = 600, serverCA: CertificateAuthority? = nil, site: SiteID? = nil) -> String {
        let payload = TokenPayload(
            id: .new(at: now), partner: partner, site: site ?? self.site, uses: 1,
            rootKeyHash: SHA256.hash(root.publicKey.bytes),
            serverCAHash: (serverCA ?? self.serverCA).certificate.publicKeyHash,
            deviceCAHash: deviceCA.certificate.publicKeyHash)
        return Base64URL.encode(sign(.enrolmentToken, payload, expiresIn: expiresIn))
    }

    func certificate(
        for key: P256Key, by authority: CertificateAuthority? = nil, device: DeviceID? = nil,
        seconds: Int64 = 80_000, issuedIn: Int64 = 0
    ) throws -> Certificate {
        try (authority ?? deviceCA).issueDevice(
            request: CertificateRequest(pem: key.certificateRequest(commonName: "device")),
            deviceURI: "cloudrmm://\(deployment)/device/\(organization)/\(device ?? self.device)",
            validitySeconds: seconds, now: now.seconds + issuedIn)
    }

    func enrollment(
        key: P256Key, keySet: [UInt8]? = nil, assignment: [UInt8]? = nil, rootKey: SigningKey? = nil,
        certificateKey: P256Key? = nil, gatewayURL: String = "wss://localhost:3002"
    ) throws -> Enrollment {
        Enrollment(
            deviceId: device, organizationId: organization, deploymentId: deployment,
            certificate: try certificate(for: certificateKey ?? key).pem,
            rootKey: (rootKey ?? root).publicKey.bytes,
            keySet: keySet ?? self.keySet(), assignment: assignment ?? self.assignment(key: key),
            gatewayUrl: gatewayURL)
    }

    func verifier() throws -> Verifier {
        try Verifier(
            deployment: deployment, device: device, keyHash: key.publicKeyHash, rootKey: root.publicKey,
            keySet: keySet(),
            assignment: assignment(), now: now)
    }

    /// A directory with an enrolled device that connects to a port of this machine.
    func directory(gatewayPort: Int, certificate: Certificate? = nil) throws -> DataDirectory {
        let directory = try DataDirectory("/tmp/cloudrmm-agent-tests/\(UniqueID.v7(at: now))")
        try directory.store(
            Identity(
                verifier: verifier(), key: key,
                certificate: certificate ?? self.certificate(for: key),
                gatewayURL: "wss://localhost:\(gatewayPort)"))
        return directory
    }

    // MARK: - Jobs

    func job(
        _ kind: JobKind = .script, _ script: Script? = Script(.sh, "true"), timeoutSeconds: Int = 60,
        attempts: Int = 3,
        idempotent: Bool = false, target: SignedTarget = .organization
    ) -> JobPayload {
        JobPayload(
            job: .new(at: now), kind: kind, script: kind == .script ? script : nil,
            timeoutSeconds: timeoutSeconds,
            maximumAttempts: attempts, idempotent: idempotent, target: target)
    }

    func name(attempt: Int = 1) -> AttemptName {
        AttemptName(run: .new(at: now), attempt: attempt, token: .new(at: now))
    }

    func dispatch(_ job: JobPayload, _ name: AttemptName? = nil, expiresIn: Int64 = 3_600) -> Dispatch {
        Dispatch(name: name ?? self.name(), job: sign(.job, job, expiresIn: expiresIn))
    }

    func verified(_ job: JobPayload) -> VerifiedJob {
        VerifiedJob(payload: job, expiresAt: now + .seconds(3_600))
    }
}

extension Outcome {
    /// An end with this outcome, now.
    func end(at now: Instant) -> AttemptEnd { AttemptEnd(outcome: self, finishedAt: now) }
}

/// Makes an empty directory, and removes it with all it holds.
@discardableResult
func withDirectory<Value>(_ body: (String) async throws -> Value) async throws -> Value {
    let path = "/tmp/cloudrmm-agent-tests/\(UniqueID.v7(at: Instant.now()))"
    try Directory.make(path)
    let result: Result<Value, any Error>
    do { result = .success(try await body(path)) } catch { result = .failure(error) }
    try Directory.removeTree(path)
    return try result.get()
}
