import Access
import Client
import Domain
import Ledger
import Postgres
import TestSupport
import Testing
import Trust
import Wire

@testable import API

/// Enrolment tokens: made, shown, used and revoked.
@Suite("Enrolment")
struct EnrollmentTests {
    @Test("a device enrols with a token, once; a changed token, a used one and a bad request are refused")
    func once() async throws {
        try await with { api, client, nobody in
            let token = try await client.createEnrollmentToken(NewEnrollmentToken(siteId: api.one.site))
            let request = try P256Key().certificateRequest(commonName: "any")
            let other = token.token.dropLast(8).last == "A" ? "B" : "A"
            let changed = String(token.token.dropLast(9)) + other + token.token.suffix(8)
            for (token, request, field) in [
                (changed, request, "token"), (token.token, "no request", "request"),
            ] {
                let refused = await #expect(throws: Problem.self) {
                    try await enroll(nobody, token, request)
                }
                #expect(refused?.status == 422 && refused?.field == field)
            }
            #expect(try await client.enrollmentToken(token.id).uses == 0)
            let enrolled = try await enroll(nobody, token.token, request)
            #expect(try await client.device(enrolled.deviceId).siteId == api.one.site)
            try await isRefused(nobody, token.token)
            #expect(try await client.enrollmentToken(token.id).uses == 1)
        }
    }

    @Test("tokens are listed and shown with what they are good for, by site and organization, without text")
    func lists() async throws {
        try await with { api, client, _ in
            // The scene has made one before.
            let before = try await client.enrollmentTokens().items.map(\.id)
            var made: [EnrollmentTokenID] = []
            for uses in [1, 7] {
                let new = NewEnrollmentToken(siteId: api.one.site, expiresInSeconds: 600, maxUses: uses)
                made.append(try await client.createEnrollmentToken(new).id)
            }
            let listed = try await client.enrollmentTokens().items
            #expect(listed.map(\.id) == before + made)
            let last = try #require(listed.last)
            let caller = try await client.whoami()
            #expect(last.maxUses == 7 && last.uses == 0 && last.revokedAt == nil)
            #expect(last.organizationId == api.one.organization && last.siteId == api.one.site)
            #expect(last.createdBy?.value == caller.id.value)
            #expect(last.expiresAt > last.createdAt && last.expiresAt <= last.createdAt + .seconds(601))
            #expect(try await client.enrollmentToken(last.id) == last)
            // In pages.
            let page = try await client.enrollmentTokens(PageOptions(limit: listed.count - 1))
            #expect(page.items == listed.dropLast())
            let rest = try await client.enrollmentTokens(PageOptions(cursor: page.next))
            #expect(rest.items == [last] && rest.next == nil)
            // Of a site or an organization; another's are not there.
            #expect(try await client.enrollmentTokens(site: api.one.site).items.count == listed.count)
            #expect(try await client.enrollmentTokens(organization: api.other.organization).items.isEmpty)
            let admin = APIClient(url: api.url, key: api.admin)
            defer { admin.close() }
            let others = try await admin.enrollmentTokens(organization: api.other.organization).items
            #expect(!others.isEmpty && others.allSatisfy { $0.siteId == api.other.site })
            let stranger = await #expect(throws: Problem.self) {
                _ = try await client.enrollmentToken(others[0].id)
            }
            #expect(stranger?.status == 404)
        }
    }

    @Test("a revoked token enrols nobody, also when the database's owner puts its row back")
    func revoked() async throws {
        try await with { api, client, nobody in
            let token = try await client.createEnrollmentToken(
                NewEnrollmentToken(siteId: api.one.site, maxUses: 10))
            let request = try P256Key().certificateRequest(commonName: "any")
            let enrolled = try await enroll(nobody, token.token, request)
            try await client.revoke(token.id)
            let row = try await client.enrollmentToken(token.id)
            #expect(row.revokedAt != nil && row.uses == 1)
            try await isRefused(nobody, token.token)
            // Revoking again is no error and changes nothing, and what enrolled before stays.
            try await client.revoke(token.id)
            #expect(try await client.enrollmentToken(token.id) == row)
            #expect(try await client.device(enrolled.deviceId).state == .active)
            let undo: [SQL] = [
                "UPDATE enrollment_tokens SET revoked_at = NULL, uses = 0 WHERE id = \(token.id)"
            ]
            try await api.owner.pipeline(scope: .platform, undo)
            try await isRefused(nobody, token.token)
            #expect(try await client.enrollmentToken(token.id).uses == 0)
            let entries = try await api.owner.query(
                "SELECT action FROM audit_entries WHERE subject_id = \(token.id) ORDER BY id",
                scope: .platform
            ) { try $0.decode(String.self) }
            // Made, revoked, and put back by somebody else.
            #expect(
                entries == ["enrollment_tokens.create"]
                    + [String](
                        repeating: "enrollment_tokens.update", count: 2))
            // Nobody revokes what they do not see.
            let stranger = APIClient(url: api.url, key: api.other.key)
            defer { stranger.close() }
            let refused = await #expect(throws: Problem.self) { try await stranger.revoke(token.id) }
            #expect(refused?.status == 404)
        }
    }

    @Test("a device that is revoked has no certificate that is good, and its work ends; the API keeps it so")
    func revokedDevice() async throws {
        try await with { api, client, nobody in
            // By whoever acts on the site alone, to whom the certificates themselves are not shown.
            let (_, key) = try await api.authenticator.createKey(
                name: "k", level: .site(api.one.site), permissions: [.tenantsArchive, .devicesRead],
                expiresIn: .seconds(60), by: nil)
            let site = APIClient(url: api.url, key: key)
            defer { site.close() }
            let job = try await client.submit(NewJob(kind: .ping, target: .devices([api.one.device])))
            let before = try await site.certificates(of: api.one.device).items
            #expect(before.count == 1 && before[0].revokedAt == nil)
            let after = try await site.revoke(api.one.device).items
            #expect(after.count == 1 && after[0].revokedAt != nil && after[0].serial == before[0].serial)
            #expect(try await client.runs(of: job.id).items.map(\.state) == [.cancelled])
            // Once more is no error, and says nothing twice.
            let count: SQL = "SELECT count(*) FROM revocations"
            let entries = try await api.owner.query(count, scope: .platform) { try $0.decode(Int.self) }
            #expect(try await site.revoke(api.one.device).items == after)
            #expect(
                try await api.owner.query(count, scope: .platform) { try $0.decode(Int.self) } == entries)
            #expect(try await api.authenticator.isRevoked(api.one.device))
            let log = try await client.audit(action: "certificates.update").items
            #expect(log.map { $0.subjectId?.value } == [api.one.device.value])
            // Another's is not there.
            let stranger = APIClient(url: api.url, key: api.other.key)
            defer { stranger.close() }
            for read in [true, false] {
                let refused = await #expect(throws: Problem.self) {
                    _ =
                        read
                        ? try await stranger.certificates(of: api.one.device)
                        : try await stranger.revoke(api.one.device)
                }
                #expect(refused?.status == 404)
            }
            #expect(try await !api.authenticator.isRevoked(api.other.device))
        }
    }

    @Test("a device that is moved while it is revoked is revoked where it has come to")
    func revokedWhileMoved() async throws {
        try await with { api, _, _ in
            let admin = APIClient(url: api.url, key: api.admin)
            defer { admin.close() }
            let (device, owner) = (api.one.device, api.owner)
            // The move is held before its commit until the revocation waits for it.
            try await withThrowingTaskGroup { tasks in
                try await owner.transaction(scope: .platform) { transaction in
                    _ = try await transaction.execute(
                        """
                        UPDATE devices SET organization_id = \(api.other.organization),
                            site_id = \(api.other.site)
                        WHERE id = \(device)
                        """)
                    tasks.addTask { try await api.ledger.revokeCertificates(of: device) }
                    repeat {
                        await Task.yield()
                    } while try await owner.query(
                        """
                        SELECT count(*) FROM pg_stat_activity
                        WHERE wait_event_type = 'Lock' AND datname = current_database()
                        """, scope: .platform
                    ) { try $0.decode(Int.self) }[0] == 0
                }
                try await tasks.waitForAll()
            }
            let left = try await owner.query(
                "SELECT count(*) FROM certificates WHERE device_id = \(device) AND revoked_at IS NULL",
                scope: .platform
            ) { try $0.decode(Int.self) }
            #expect(left == [0])
        }
    }

    // MARK: Parts

    private func with(_ body: (TestAPI, APIClient, APIClient) async throws -> Void) async throws {
        try await TestAPI.with { api in
            let client = APIClient(url: api.url, key: api.one.key)
            let nobody = APIClient(url: api.url, key: nil)
            defer {
                client.close()
                nobody.close()
            }
            try await body(api, client, nobody)
        }
    }

    @discardableResult
    private func enroll(_ client: APIClient, _ token: String, _ request: String) async throws -> Enrollment {
        try await client.enroll(
            NewEnrollment(
                token: token, request: request, hostname: "h", platform: "linux", agentVersion: "1",
                machineId: nil))
    }

    private func isRefused(_ client: APIClient, _ token: String) async throws {
        let request = try P256Key().certificateRequest(commonName: "any")
        let refused = await #expect(throws: Problem.self) { try await enroll(client, token, request) }
        #expect(refused?.status == 401 && refused?.code == "expiredToken" && refused?.field == "token")
    }
}
