package import Domain
import Process
import Trust
import Wire

/// Makes a device of a token: its key, its certificate, and the statements that it pins.
///
/// The token comes from the operator and says whom to trust: the hashes of the server CA (the given `--ca`
/// file must be it), of the root key and of the device CA. What the server answers is accepted only if it
/// fits all of them.
package struct Enroller: Sendable {
    /// Where the API listens.
    package let api: ServiceAddress
    /// PEM of the CA that signed the API's certificate.
    private let serverCA: String
    private let text: String
    private let token: TokenPayload
    private let deployment: DeploymentID
    private let organization: OrganizationID
    private let expiresAt: Instant

    /// Reads a token's text and checks that the CA is the one that it names; throws `invalid` or `untrusted`.
    package init(apiURL: String, token text: String, serverCA: String) throws {
        api = try ServiceAddress(apiURL, scheme: "https")
        guard text.utf8.count <= Limits.tokenBytesMax else {
            throw AgentError(.invalid, "an enrolment token has at most \(Limits.tokenBytesMax) characters")
        }
        let statement: UnverifiedStatement
        do {
            statement = try UnverifiedStatement(SignedStatement(text: text), as: .enrolmentToken)
            token = try TokenPayload.decode(statement.payload)
        } catch {
            throw AgentError(.invalid, "this is not an enrolment token", cause: error)
        }
        let authority: Certificate
        do {
            authority = try Certificate(pem: serverCA)
        } catch {
            throw AgentError(.invalid, "the CA file holds no certificate", cause: error)
        }
        guard authority.publicKeyHash == token.serverCAHash.bytes else {
            throw AgentError(.untrusted, "the CA file is not the CA that the token names")
        }
        self.text = text
        // Whatever else the file holds, this certificate alone was judged.
        self.serverCA = authority.pem
        deployment = statement.deployment
        organization = statement.organization
        expiresAt = statement.expiresAt
    }

    /// Enrols this machine, or a device of another name, into a directory; blocks. Throws `alreadyEnrolled`,
    /// `refused` with the server's own sentence, `untrusted` when the answer does not fit the token,
    /// `connection`.
    package func enroll(into directory: DataDirectory, hostname: String? = nil, now: Instant) throws
        -> Identity
    {
        let lock = try directory.takeLock()
        defer { lock.release() }
        guard !directory.isEnrolled else {
            throw AgentError(
                .alreadyEnrolled,
                "a device is enrolled in \(directory.path) already; take another directory or remove it")
        }
        let identity = try enroll(
            hostname: hostname ?? SystemFacts.hostname, machineID: SystemFacts.machineID, now: now)
        try directory.store(identity)
        return identity
    }

    /// Enrols a device of this name; blocks, and keeps nothing on disk.
    package func enroll(hostname: String, machineID: String?, now: Instant) throws -> Identity {
        guard now < expiresAt else {
            throw AgentError(.invalid, "the enrolment token expired at \(expiresAt)")
        }
        let key = P256Key()
        let request = NewEnrollment(
            token: text, request: try key.certificateRequest(commonName: "cloudrmm-agent"),
            hostname: hostname,
            platform: SystemFacts.platform, agentVersion: SystemFacts.agentVersion, machineId: machineID)
        let answer = try HTTPExchange.post(request.json, to: "/v1/enrollments", at: api, trustedCA: serverCA)
        guard (200...299).contains(answer.status) else { throw refusal(answer) }
        let enrollment: Enrollment
        do {
            enrollment = try Enrollment.decode(answer.body)
        } catch {
            throw AgentError(.connection, "the server's answer is not an enrolment", cause: error)
        }
        return try judge(enrollment, key: key, now: now)
    }

    /// The identity of an answer that fits the token in everything that the token says.
    func judge(_ enrollment: Enrollment, key: P256Key, now: Instant) throws -> Identity {
        func require(_ condition: Bool, _ message: String) throws(AgentError) {
            if !condition { throw AgentError(.untrusted, message) }
        }
        do {
            try require(
                SHA256.hash(enrollment.rootKey.bytes) == token.rootKeyHash.bytes,
                "the root key is not the token's")
            try require(enrollment.deploymentId == deployment, "the deployment is not the token's")
            let verifier = try Verifier(
                deployment: deployment, device: enrollment.deviceId, keyHash: key.publicKeyHash,
                rootKey: VerifyingKey(bytes: enrollment.rootKey.bytes), keySet: enrollment.keySet.bytes,
                assignment: enrollment.assignment.bytes, now: now)
            let keySet = verifier.keySet.payload
            try require(
                Certificate(pem: keySet.serverCA).publicKeyHash == token.serverCAHash.bytes,
                "the key set's server CA is not the token's")
            try require(
                Certificate(pem: keySet.deviceCA).publicKeyHash == token.deviceCAHash.bytes,
                "the key set's device CA is not the token's")
            let assignment = verifier.assignment
            try require(
                assignment.organization == organization && enrollment.organizationId == organization,
                "the assignment is for another organization than the token")
            try require(
                assignment.payload.site == token.site, "the assignment is for another site than the token")
            try require(
                assignment.payload.partner == token.partner,
                "the assignment is for another partner than the token")
            let certificate = try Certificate(pem: enrollment.certificate)
            try require(certificate.publicKeyHash == key.publicKeyHash, "the certificate is for another key")
            _ = try ServiceAddress(enrollment.gatewayUrl, scheme: "wss")
            return Identity(
                verifier: verifier, key: key, certificate: certificate, gatewayURL: enrollment.gatewayUrl)
        } catch let error as AgentError {
            throw error
        } catch {
            throw AgentError(.untrusted, "the server's answer does not hold", cause: error)
        }
    }

    /// The server's problem (RFC 9457) as one sentence.
    private func refusal(_ answer: HTTPAnswer) -> AgentError {
        // Another body than a problem has nothing more to say than its status.
        guard let problem = try? JSON.parse(answer.body), case .string(let sentence)? = problem["detail"],
            !sentence.isEmpty
        else {
            return AgentError(.refused, "the server refused the enrolment with status \(answer.status)")
        }
        return AgentError(.refused, "the server refused the enrolment: \(Self.harmless(sentence))")
    }

    /// A stranger's text without what a terminal would obey, cut to a sensible length.
    private static func harmless(_ text: String) -> String {
        let scalars = text.unicodeScalars.filter { $0.value >= 0x20 && !(0x7F..<0xA0).contains($0.value) }
        return String(String.UnicodeScalarView(scalars.prefix(500)))
    }
}
