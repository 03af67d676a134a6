import Domain
import Ledger
import Postgres
import TestSupport
import Testing
import Trust
import Wire

@testable import Engine

/// Who is issued another certificate, and who is not, whatever stands in the rows.
@Suite(.serialized, .world) struct RenewerTests {
    private let signer: Signer
    private let deviceCA: CertificateAuthority
    private let key = P256Key()

    init() throws {
        deviceCA = try CertificateAuthority.make(commonName: "d", validitySeconds: 86_400)
        signer = try .made(
            deployment: fresh(),
            serverCA: CertificateAuthority.make(commonName: "s", validitySeconds: 60).certificate,
            deviceCA: deviceCA)
    }

    private struct Scene {
        let bench: Bench
        let tenant: TestSupport.Tenant
        var device: DeviceID { tenant.all[0] }
        var place: (organization: OrganizationID, device: DeviceID) { (tenant.organization, device) }
    }

    private func with(_ body: (Scene) async throws -> Void) async throws {
        try await Bench.run { bench in
            let scene = Scene(bench: bench, tenant: try await bench.world.tenant())
            try await assign(scene, keyHash: key.publicKeyHash)
            try await bench.world.owner.execute(
                """
                INSERT INTO certificates (organization_id, device_id, serial, key_hash, not_after)
                VALUES (\(scene.tenant.organization), \(scene.device), 'aa',
                        \(PostgresData(key.publicKeyHash)), now() + interval '1 day')
                """, scope: .none)
            try await body(scene)
        }
    }

    private func assign(_ scene: Scene, keyHash: [UInt8], by signer: Signer? = nil) async throws {
        let assignment = (signer ?? self.signer).sign(
            AssignmentPayload(
                device: scene.device, keyHash: keyHash, partner: scene.tenant.partner,
                site: scene.tenant.sites[0], version: 1),
            organization: scene.tenant.organization, now: .now())
        try await scene.bench.world.owner.execute(
            """
            UPDATE devices SET assignment = \(PostgresData(assignment.encoded)), assignment_version = 1,
                   key_hash = \(PostgresData(keyHash))
            WHERE id = \(scene.device)
            """, scope: .none)
    }

    /// Asks by a key, and takes what is answered.
    private func answer(
        _ scene: Scene, by key: P256Key? = nil, request: String? = nil, revoked: DeviceID? = nil
    ) async throws -> RenewalAnswer? {
        let ledger = scene.bench.world.gateway
        let text = try request ?? (key ?? self.key).certificateRequest(commonName: "any")
        try await ledger.askRenewals([(scene.tenant.organization, scene.device, text)])
        let renewer = Renewer(
            ledger: scene.bench.world.api, signer: signer, isRevoked: { $0 == revoked }, logger: .quiet)
        #expect(try await renewer.answerOnce() == 1)
        #expect(try await renewer.answerOnce() == 0, "each is answered once")
        let answers = try await ledger.takeRenewals(of: [scene.place])
        #expect(try await ledger.takeRenewals(of: [scene.place]).isEmpty, "each answer is taken once")
        return answers[scene.device]
    }

    private func expectRefusal(_ answer: RenewalAnswer?, _ reason: String) {
        guard case .refused(let said)? = answer, said.contains(reason) else {
            Issue.record("\(reason): \(String(describing: answer))")
            return
        }
    }

    @Test("A device is issued a certificate of its own key and name, which opens a session")
    func issued() async throws {
        try await with { scene in
            guard case .certificate(let pem)? = try await answer(scene) else {
                Issue.record("no certificate")
                return
            }
            let certificate = try Certificate(pem: pem)
            #expect(certificate.isIssued(by: deviceCA.certificate))
            #expect(certificate.publicKeyHash == key.publicKeyHash)
            #expect(
                certificate.uriNames == [
                    "cloudrmm://\(signer.deployment)/device/\(scene.tenant.organization)/\(scene.device)"
                ])
            let identity = try await scene.bench.world.gateway.identity(
                scene.device, organization: scene.tenant.organization, certificateSerial: certificate.serial)
            #expect(identity?.certificateRevoked == false && identity?.isActive == true)
        }
    }

    @Test("Whoever writes the rows has no certificate issued for a key of their own")
    func stranger() async throws {
        try await with { scene in
            let own = P256Key()
            expectRefusal(try await answer(scene, by: own), "another key than its assignment names")
            // The key of the row is no assignment, and an assignment that nobody signed is none.
            try await scene.bench.world.owner.execute(
                "UPDATE devices SET key_hash = \(PostgresData(own.publicKeyHash)) WHERE id = \(scene.device)",
                scope: .none)
            expectRefusal(try await answer(scene, by: own), "another key than its assignment names")
            let stranger = try Signer.made(
                deployment: signer.deployment, serverCA: signer.serverCA, deviceCA: deviceCA)
            try await assign(scene, keyHash: own.publicKeyHash, by: stranger)
            expectRefusal(try await answer(scene, by: own), "does not hold")
            try await assign(scene, keyHash: key.publicKeyHash)
            expectRefusal(try await answer(scene, request: "no request"), "does not hold")
            // An older one of the device's own, put back, is not what the row says.
            try await scene.bench.world.owner.execute(
                "UPDATE devices SET assignment_version = 2 WHERE id = \(scene.device)", scope: .none)
            expectRefusal(try await answer(scene), "another one than its row says")
        }
    }

    @Test("A device that is revoked, suspended or insatiable is issued none")
    func refused() async throws {
        try await with { scene in
            expectRefusal(try await answer(scene, revoked: scene.device), "revoked")
            let owner = scene.bench.world.owner
            try await owner.execute("UPDATE devices SET state = 1 WHERE id = \(scene.device)", scope: .none)
            expectRefusal(try await answer(scene), "suspended")
            try await owner.execute("UPDATE devices SET state = 0 WHERE id = \(scene.device)", scope: .none)
            try await owner.execute(
                "UPDATE certificates SET revoked_at = now() WHERE device_id = \(scene.device)", scope: .none)
            expectRefusal(try await answer(scene), "revoked")
            #expect(
                try await scene.bench.world.count(
                    "SELECT count(*) FROM certificates WHERE device_id = \(scene.device)") == 1,
                "nothing is noted that nobody is told of")
            try await owner.execute(
                "UPDATE certificates SET revoked_at = NULL WHERE device_id = \(scene.device)", scope: .none)
            for _ in 0..<7 {
                guard case .certificate? = try await answer(scene) else {
                    Issue.record("no certificate")
                    return
                }
            }
            expectRefusal(try await answer(scene), "8 certificates within a day")
        }
    }
}
