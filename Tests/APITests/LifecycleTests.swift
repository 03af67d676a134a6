import Access
import Client
import Domain
import Ledger
import Outbound
import Postgres
import Streams
import TestSupport
import Testing
import Trust
import Wire

@testable import API
@testable import Engine

@Suite("Archiving, moving and giving up parts of the tenancy")
struct LifecycleTests {
    private func ping(_ device: DeviceID) -> NewJob { NewJob(kind: .ping, target: .devices([device])) }

    @Test("what is archived gets no new work, lets nobody in, ends what it had open, and can be brought back")
    func archive() async throws {
        try await TestAPI.with { api in
            let admin = APIClient(url: api.url, key: api.admin)
            let own = APIClient(url: api.url, key: api.one.key)
            defer { admin.close(); own.close() }
            let token = try await admin.createEnrollmentToken(NewEnrollmentToken(siteId: api.one.site))
            let open = try await admin.submit(ping(api.one.device))
            let wide = try await admin.submit(
                NewJob(kind: .ping, target: .organization(api.one.organization)))
            #expect(try await own.devices().items.count == 1)
            let archived = try await admin.archive(api.one.organization)
            #expect(archived.state == .archived)
            for job in [open.id, wide.id] {
                let row = try #require(await api.ledger.job(job, scope: .platform))
                #expect(row.cancelRequestedAt != nil)
            }
            #expect(try await admin.runs(of: open.id).items.map(\.state) == [.cancelled])
            // Nobody of it is let in, and nothing of it is named.
            #expect(try await refusal { _ = try await own.devices() }.status == 401)
            #expect(try await admin.site(api.one.site).state == .archived)
            for attempt in [
                { _ = try await admin.submit(ping(api.one.device)) },
                { _ = try await admin.submit(NewJob(kind: .ping, target: .site(api.one.site))) },
                {
                    _ = try await admin.submit(
                        NewJob(kind: .ping, target: .organization(api.one.organization)))
                },
                {
                    _ = try await admin.createSite(
                        NewSite(name: "x", organizationId: api.one.organization))
                },
                {
                    _ = try await admin.createEnrollmentToken(NewEnrollmentToken(siteId: api.one.site))
                },
                {
                    _ = try await admin.createAPIKey(
                        NewAPIKey(name: "x", siteId: api.one.site, permissions: ["jobs:read"]))
                },
                { _ = try await admin.move(api.one.device, to: api.other.site) },
                { _ = try await admin.move(api.other.device, to: api.one.site) },
            ] as [() async throws -> Void] {
                let problem = try await refusal(attempt)
                #expect(problem.status == 409 && problem.code == "archived", "\(problem)")
            }
            _ = token
            // What was archived alone is brought back alone; the row below follows the one above.
            #expect(try await refusal { _ = try await admin.restore(api.one.site) }.code == "archived")
            #expect(try await admin.restore(api.one.organization).state == .active)
            #expect(try await admin.site(api.one.site).state == .active)
            #expect(try await own.devices().items.count == 1)
            _ = try await own.submit(ping(api.one.device))
        }
    }

    @Test("a partner's archive closes all below; an organization that was archived by itself stays so")
    func nested() async throws {
        try await TestAPI.with { api in
            let admin = APIClient(url: api.url, key: api.admin)
            defer { admin.close() }
            let second = try await admin.createOrganization(
                NewOrganization(name: "second", partnerId: api.one.partner))
            _ = try await admin.archive(second.id)
            _ = try await admin.archive(api.one.partner)
            #expect(try await admin.organization(api.one.organization).state == .archived)
            #expect(try await refusal { _ = try await admin.submit(ping(api.one.device)) }.code == "archived")
            _ = try await admin.submit(ping(api.other.device))
            _ = try await admin.restore(api.one.partner)
            #expect(try await admin.organization(api.one.organization).state == .active)
            #expect(try await admin.organization(second.id).state == .archived)
            _ = try await admin.submit(ping(api.one.device))
            // By the version that was read, or not at all.
            let row = try await admin.organization(second.id)
            let stale = try await refusal { _ = try await admin.restore(second.id, version: row.version - 1) }
            #expect(stale.status == 412)
            // A stale archive of a partner changes nothing below it.
            let partner = try await admin.partner(api.one.partner)
            let late = try await refusal {
                _ = try await admin.archive(api.one.partner, version: partner.version - 1)
            }
            #expect(late.status == 412)
            #expect(try await admin.organization(api.one.organization).state == .active)
            _ = try await admin.submit(ping(api.one.device))
        }
    }

    @Test("nobody archives what they stand on, and a stranger's is not there")
    func above() async throws {
        try await TestAPI.with { api in
            let own = try await api.client(.organization(api.one.organization))
            defer { own.close() }
            #expect(try await refusal { _ = try await own.archive(api.one.organization) }.status == 403)
            #expect(try await refusal { _ = try await own.offboard(api.one.organization) }.status == 403)
            #expect(try await refusal { _ = try await own.archive(api.other.organization) }.status == 404)
            #expect(try await refusal { _ = try await own.archive(api.other.site) }.status == 404)
            _ = try await own.archive(api.one.site)
            _ = try await own.restore(api.one.site)
        }
    }

    @Test("an archived device ends its runs and is left out of what its site does")
    func device() async throws {
        try await TestAPI.with { api in
            let admin = APIClient(url: api.url, key: api.admin)
            defer { admin.close() }
            try await api.connect(api.one.device)
            let open = try await admin.submit(ping(api.one.device))
            let row = try await admin.edit(api.one.device, NewDeviceChanges(state: .archived))
            #expect(row.state == .archived)
            let run = try #require(try await admin.runs(of: open.id).items.first)
            #expect(run.state == .cancelled && run.reason == "archived")
            #expect(try await refusal { _ = try await admin.submit(ping(api.one.device)) }.code == "archived")
            let site = try await refusal {
                _ = try await admin.submit(NewJob(kind: .ping, target: .site(api.one.site)))
            }
            #expect(site.field == "target.siteId")
            _ = try await admin.edit(api.one.device, NewDeviceChanges(state: .active))
            _ = try await admin.submit(ping(api.one.device))
        }
    }

    @Test("a device moves between sites and organizations with a new assignment; both sides are checked")
    func moves() async throws {
        try await TestAPI.with { api in
            let admin = APIClient(url: api.url, key: api.admin)
            let own = try await api.client(.organization(api.one.organization))
            defer { admin.close(); own.close() }
            let second = try await own.createSite(
                NewSite(name: "second", organizationId: api.one.organization))
            _ = try await own.edit(api.one.device, NewDeviceChanges(tags: .set(["a"])))
            let moved = try await own.move(api.one.device, to: second.id)
            #expect(moved.siteId == second.id && moved.tags == ["a"])
            // One side in reach is not enough, whichever it is.
            let to = try await refusal { _ = try await own.move(api.one.device, to: api.other.site) }
            #expect(to.status == 422 && to.field == "siteId")
            #expect(
                try await refusal { _ = try await own.move(api.other.device, to: second.id) }.status == 404)
            let site = try await api.client(.site(second.id))
            defer { site.close() }
            #expect(
                try await refusal { _ = try await site.move(api.one.device, to: api.one.site) }.status == 422)
            // To another organization: what is open ends, the new people see the device, the old its history.
            let open = try await admin.submit(ping(api.one.device))
            let away = try await admin.move(api.one.device, to: api.other.site)
            #expect(away.organizationId == api.other.organization)
            let run = try #require(try await admin.runs(of: open.id).items.first)
            #expect(run.state == .cancelled && run.reason == "moved")
            #expect(try await own.devices().items.isEmpty)
            #expect(try await own.runs(of: open.id).items.count == 1)
            let other = APIClient(url: api.url, key: api.other.key)
            defer { other.close() }
            #expect(try await other.devices().items.contains { $0.id == api.one.device })
            #expect(try await refusal { _ = try await other.job(open.id) }.status == 404)
            _ = try await other.submit(ping(api.one.device))
            let assigned = try #require(
                await api.ledger.assigned([api.one.device], scope: .platform).first)
            #expect(assigned.organization == api.other.organization)
            let payload = try api.signer.verified(assigned, now: .now())
            #expect(payload.version == 3 && payload.site == api.other.site)
            #expect(payload.partner == api.other.partner)
            // Each of the two reads of it in its log, and no more.
            for (organization, action) in [
                (api.one.organization, "devices.leave"), (api.other.organization, "devices.arrive"),
            ] {
                let entries = try await admin.audit(log: ID(organization.value)).items
                #expect(entries.contains { $0.action == action })
            }
        }
    }

    @Test("the assignment of a device whose row was altered is not signed again")
    func noOracle() async throws {
        try await TestAPI.with { api in
            let admin = APIClient(url: api.url, key: api.admin)
            defer { admin.close() }
            let second = try await admin.createSite(
                NewSite(name: "second", organizationId: api.one.organization))
            // Another device's statement, and one that nobody signed.
            for assignment: SQL in [
                "(SELECT assignment FROM devices WHERE id = \(api.other.device))", "'\\x01'::bytea",
            ] {
                try await api.owner.execute(
                    "UPDATE devices SET assignment = \(fragment: assignment) WHERE id = \(api.one.device)",
                    scope: .platform)
                let problem = try await refusal { _ = try await admin.move(api.one.device, to: second.id) }
                #expect(problem.status == 403 && problem.code == "alteredRow")
            }
            #expect(try await admin.device(api.one.device).siteId == api.one.site)
        }
    }

    @Test("a site moves with its devices and leaves its history; repeated, it changes nothing more")
    func siteMove() async throws {
        try await TestAPI.with { api in
            let admin = APIClient(url: api.url, key: api.admin)
            defer { admin.close() }
            let job = try await admin.submit(NewJob(kind: .ping, target: .devices([api.one.device])))
            let new = try await admin.move(api.one.site, to: api.other.organization)
            #expect(new.organizationId == api.other.organization && new.name == "one")
            #expect(try await admin.device(api.one.device).siteId == new.id)
            #expect(try await admin.site(api.one.site).state == .archived)
            #expect(try await admin.job(job.id).organizationId == api.one.organization)
            #expect(try await admin.move(api.one.site, to: api.other.organization).id == new.id)
            #expect(try await admin.device(api.one.device).siteId == new.id)
        }
    }

    @Test("an organization moves below another partner, whose people see it from then on, and nobody else")
    func organizationMove() async throws {
        try await TestAPI.with { api in
            let admin = APIClient(url: api.url, key: api.admin)
            let before = try await api.client(.partner(api.one.partner))
            let after = try await api.client(.partner(api.other.partner))
            defer { admin.close(); before.close(); after.close() }
            #expect(
                try await refusal { _ = try await before.move(api.one.organization, to: api.other.partner) }
                    .status == 403)
            let version = try await admin.organization(api.one.organization).version
            let stale = try await api.call(
                "POST", "/v1/organizations/\(api.one.organization)/move",
                body: #"{"partnerId":"\#(api.other.partner)"}"#, headers: [("If-Match", "\"\(version + 1)\"")]
            )
            #expect(stale.status == 412)
            #expect(
                try await admin.move(api.one.organization, to: api.other.partner).partnerId
                    == api.other.partner)
            #expect(
                try await refusal { _ = try await before.organization(api.one.organization) }.status == 404)
            _ = try await after.submit(ping(api.one.device))
            let assigned = try #require(
                await api.ledger.assigned([api.one.device], scope: .platform).first)
            #expect(assigned.organization == api.one.organization)
            let payload = try api.signer.verified(assigned, now: .now())
            #expect(payload.partner == api.other.partner && payload.version == 2)
        }
    }

    @Test("giving up an organization cuts off all that lets in, and reports each device")
    func offboarding() async throws {
        try await TestAPI.with { api in
            let admin = APIClient(url: api.url, key: api.admin)
            defer { admin.close() }
            let level = Level.organization(api.one.organization)
            let (user, person, _) = try await api.person("u@example.com", .organizationAdmin, on: level)
            defer { person.close() }
            let home = Place(organizationId: api.one.organization)
            let resident = try await admin.createUser(
                NewUser(email: "r@example.com", name: "R", home: home))
            _ = try await admin.createEnrollmentToken(NewEnrollmentToken(siteId: api.one.site))
            let open = try await admin.submit(ping(api.one.device))
            let cut = try await admin.offboard(api.one.organization)
            #expect(cut.certificatesRevoked == 1 && cut.apiKeysRevoked >= 1 && cut.rolesTaken == 1)
            // The token of the device's enrolment, and the one that nobody used.
            #expect(cut.tokensRevoked == 2 && cut.usersDisabled >= 1)
            #expect(try await admin.user(resident.id).state == .disabled)
            #expect(try await admin.bindings(user: user.id).items.isEmpty)
            let report = try await admin.offboarding(of: api.one.organization).items
            let device = try #require(report.first)
            #expect(device.deviceId == api.one.device && device.cutOff && device.openRuns == 0)
            #expect(try await admin.runs(of: open.id).items.first?.state == .cancelled)
            // Brought back, it has its history; what was revoked stays revoked.
            _ = try await admin.restore(api.one.organization)
            let own = APIClient(url: api.url, key: api.one.key)
            defer { own.close() }
            #expect(try await refusal { _ = try await own.devices() }.status == 401)
            // At home elsewhere, the person may still sign in, and do nothing here.
            #expect(try await refusal { _ = try await person.devices() }.status == 403)
            let again = try await admin.offboard(api.one.organization)
            #expect(again.certificatesRevoked == 0 && again.apiKeysRevoked == 0)
        }
    }

    @Test("giving up an organization disables nobody at home there who may do more than whoever does it")
    func stronger() async throws {
        try await TestAPI.with { api in
            let admin = APIClient(url: api.url, key: api.admin)
            let (_, boss, _) = try await api.person(
                "boss@example.com", .partnerAdmin, on: .partner(api.one.partner))
            defer { admin.close(); boss.close() }
            let home = Place(organizationId: api.one.organization)
            let resident = try await admin.createUser(NewUser(email: "r@example.com", name: "R", home: home))
            let above = try await admin.createUser(NewUser(email: "a@example.com", name: "A", home: home))
            _ = try await admin.bind(NewBinding(userId: above.id, role: "platformAdmin"))
            let cut = try await boss.offboard(api.one.organization)
            #expect(cut.usersDisabled == 1)
            #expect(try await admin.user(resident.id).state == .disabled)
            #expect(try await admin.user(above.id).state == .invited)
            #expect(try await admin.bindings(user: above.id).items.count == 1)
        }
    }
}
