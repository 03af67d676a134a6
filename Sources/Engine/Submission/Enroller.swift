package import Domain
package import Ledger
import Postgres
package import Trust
package import Wire

/// Makes enrolment tokens, and turns a token and a certificate signing request into a device.
package struct Enroller: Sendable {
    private let ledger: Ledger
    private let signer: Signer
    private let judge: EdgeJudge
    private let isRevoked: @Sendable (EnrollmentTokenID) async throws -> Bool
    private let gatewayURL: @Sendable () -> String

    /// An enroller on the API's login, which asks `isRevoked` for what a row of the database may not undo;
    /// agents are told to connect to `gatewayURL`.
    package init(
        ledger: Ledger, signer: Signer, judge: EdgeJudge,
        isRevoked: @escaping @Sendable (EnrollmentTokenID) async throws -> Bool,
        gatewayURL: @escaping @Sendable () -> String
    ) {
        self.ledger = ledger
        self.signer = signer
        self.judge = judge
        self.isRevoked = isRevoked
        self.gatewayURL = gatewayURL
    }

    /// Makes a token for a site that is the level or below it. Its text is shown here and never again: only
    /// its hash is kept.
    package func createToken(
        _ new: NewEnrollmentToken, by principal: PrincipalID, level: Level
    ) async throws -> CreatedEnrollmentToken {
        let unseen = EngineError(.invalid, field: "siteId", "names no site that you may see")
        // A site's scope does not see its partner, which the token names: what the scope shows is looked at
        // again, and judged by what the token will say.
        guard try await ledger.site(new.siteId, scope: level.scope) != nil,
            let site = try await ledger.site(new.siteId, scope: .platform), let partner = site.partner
        else { throw unseen }
        try require(site.edges, upTo: level, else: unseen)
        let now = Instant.now()
        let id = EnrollmentTokenID.new(at: now)
        let payload = TokenPayload(
            id: id, partner: partner, site: site.site, uses: new.maxUses,
            rootKeyHash: SHA256.hash(signer.rootKey.bytes), serverCAHash: signer.serverCA.publicKeyHash,
            deviceCAHash: signer.deviceCA.certificate.publicKeyHash)
        let expiresAt = now + .seconds(new.expiresInSeconds)
        let signed = signer.sign(payload, organization: site.organization, now: now, expiresAt: expiresAt)
        try await ledger.createEnrollmentToken(
            id, site: site, hash: SHA256.hash(signed.encoded), expiresInSeconds: new.expiresInSeconds,
            usesMax: new.maxUses, by: principal, signedBy: signer.jobKeyID, scope: level.scope)
        return CreatedEnrollmentToken(id: id, token: signed.text, expiresAt: expiresAt)
    }

    /// Enrols a device: the token says where it belongs, the request brings its key and nothing else.
    package func enroll(_ new: NewEnrollment) async throws -> Enrollment {
        let now = Instant.now()
        let token: TokenPayload
        let organization: OrganizationID
        let encoded: [UInt8]
        do {
            let verified = try signer.verify(token: new.token, now: now)
            token = try TokenPayload.decode(verified.statement.payload)
            guard let id = UniqueID(bytes: verified.statement.organization) else {
                throw EngineError(.invalid, field: "token", "is not an enrolment token")
            }
            organization = OrganizationID(id)
            encoded = verified.encoded
        } catch let error as TrustError where error.code == .expired {
            throw EngineError(.expiredToken, field: "token", "has expired; ask for a new one")
        } catch is TrustError {
            throw EngineError(.invalid, field: "token", "is not an enrolment token of this installation")
        }
        let usedUp = EngineError(.expiredToken, field: "token", "is used up or revoked; ask for a new one")
        if try await isRevoked(token.id) { throw usedUp }
        let request: CertificateRequest
        do {
            request = try CertificateRequest(pem: new.request)
        } catch {
            throw EngineError(.invalid, field: "request", "is refused: \(error.message)")
        }
        // The token says where the device belongs; where its site is now must be the same.
        let place = try await ledger.site(token.site, scope: .platform)
        let gone = EngineError(.expiredToken, field: "token", "is for a site that is not there any more")
        try require(place?.edges ?? [], upTo: .platform, else: gone)
        guard let place, place.organization == organization, place.partner == token.partner else {
            throw gone
        }
        let device = DeviceID.new(at: now)
        let certificate = try signer.certificate(for: request, device: device, of: organization, now: now)
        let assignment = signer.sign(
            AssignmentPayload(
                device: device, keyHash: request.publicKeyHash, partner: token.partner, site: token.site,
                version: 1),
            organization: organization, now: now)
        let kept = try await ledger.enroll(
            EnrolledDevice(
                token: token.id, tokenHash: SHA256.hash(encoded), device: device, organization: organization,
                site: token.site, hostname: new.hostname, platform: new.platform,
                agentVersion: new.agentVersion,
                machineID: new.machineId, keyHash: request.publicKeyHash,
                certificateSerial: certificate.serial,
                certificateEnd: Instant(seconds: certificate.notAfter), assignment: assignment.encoded,
                mac: judge.mac(of: .device(device, at: token.site, of: organization))))
        guard kept else { throw usedUp }
        return Enrollment(
            deviceId: device, organizationId: organization, deploymentId: signer.deployment,
            certificate: certificate.pem,
            rootKey: signer.rootKey.bytes, keySet: signer.keySet.encoded, assignment: assignment.encoded,
            gatewayUrl: gatewayURL())
    }

    private func require(
        _ edges: [SealedEdge], upTo level: Level, else unseen: EngineError
    ) throws(EngineError) {
        do throws(EdgeRefusal) {
            try judge.require(edges, upTo: level)
        } catch {
            throw EngineError(error, unseen: unseen)
        }
    }
}
