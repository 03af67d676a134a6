import Access
import Client
import Domain
import HTTPTypes
import Ledger
import Outbound
import Postgres
import TestSupport
import Testing
import Trust
import Wire

@testable import API

/// Every route, called by every role about what is its own, a sibling's, its parent's and a stranger's.
/// Two organizations of a partner and one of another, each with one of everything.
struct Scene {
    let api: TestAPI
    let own: MatrixTests.Ids
    let places: [MatrixTests.Ids]
    private let admin: APIClient

    init(_ api: TestAPI) async throws {
        self.api = api
        admin = APIClient(url: api.url, key: api.admin)
        let sibling = try await admin.createOrganization(
            NewOrganization(name: "sibling", partnerId: api.one.partner))
        let site = try await admin.createSite(NewSite(name: "sibling", organizationId: sibling.id))
        var places = [
            try await Self.place(api.one.partner, api.one.organization, api.one.site, api.one.device, admin),
            try await Self.place(
                api.other.partner, api.other.organization, api.other.site, api.other.device, admin),
        ]
        places.insert(
            try await Self.place(api.one.partner, sibling.id, site.id, nil, admin), at: 1)
        self.places = places
        own = places[0]
    }

    /// Two sites of one organization, each with a device and with one of everything that lies on a site.
    init(sitesOf api: TestAPI) async throws {
        self.api = api
        admin = APIClient(url: api.url, key: api.admin)
        let one = api.one
        let site = try await admin.createSite(NewSite(name: "sibling", organizationId: one.organization)).id
        let token = try await admin.createEnrollmentToken(NewEnrollmentToken(siteId: site)).token
        let enrollment = NewEnrollment(
            token: token, request: try P256Key().certificateRequest(commonName: "x"), hostname: "sibling",
            platform: "linux", agentVersion: "1", machineId: nil)
        _ = try await api.call("POST", "/v1/enrollments", key: .some(nil), bytes: enrollment.json)
        let device = try #require(await admin.devices().items.first { $0.siteId == site })
        places = [
            try await Self.place(one.partner, one.organization, one.site, one.device, admin, isSite: true),
            try await Self.place(one.partner, one.organization, site, device.id, admin, isSite: true),
        ]
        own = places[0]
    }

    private static func place(
        _ partner: PartnerID, _ organization: OrganizationID, _ site: SiteID, _ device: DeviceID?,
        _ admin: APIClient, isSite: Bool = false
    ) async throws -> MatrixTests.Ids {
        var ids = MatrixTests.Ids()
        ids.isSite = isSite
        (ids.partner, ids.organization, ids.site) = (
            partner.description, organization.description, site.description
        )
        ids.level = [isSite ? .site(site) : .organization(organization)]
        if let device {
            ids.device = device.description
            let job = try await admin.submit(NewJob(kind: .ping, target: .devices([device])))
            ids.job = job.id.description
            ids.run = try await admin.runs(of: job.id).items[0].id.description
        } else {
            (ids.device, ids.job, ids.run) = (
                UniqueID.zero.description, UniqueID.zero.description, UniqueID.zero.description
            )
        }
        try await ids.renew(admin)
        try await ids.renewToken(admin)
        return ids
    }

    /// The place with what the call may take away made anew.
    func fresh(
        _ place: MatrixTests.Ids, _ row: MatrixTests.Row, _ route: Route
    ) async throws -> MatrixTests.Ids {
        var place = place
        if ["archive", "restore", "offboard", "erase"].contains(where: { route.path.hasSuffix("/\($0)") }) {
            try await place.renewLevel(row.subject, admin)
        }
        switch row.subject {
        case .approval: try await place.renewApproval(api)
        case .webhook:
            if route.method != .get || place.webhook.isEmpty { try await place.renewWebhook(admin) }
        case .oidcProvider, .oidcLink: try await place.renewProvider(admin)
        case .enrollmentToken: if route.method != .get { try await place.renewToken(admin) }
        case .secret:
            if route.method != .get || place.secret.isEmpty { try await place.renewSecret(admin) }
        case .apiKey, .user, .role, .binding:
            if route.method != .get { try await place.renew(admin) }
        case .organization where route.path == "/v1/role-bindings": try await place.renew(admin)
        default: break
        }
        return place
    }

    /// On which levels a role is tried.
    func levels(of role: BuiltinRole) -> [Level] {
        let all: [Level] = [
            .platform, .partner(api.one.partner), .organization(api.one.organization), .site(api.one.site),
        ]
        return all.filter(role.fits)
    }

    /// Whether something of a place is in reach.
    func isWithin(_ subject: MatrixTests.Subject, _ ids: MatrixTests.Ids, _ reach: Level) -> Bool {
        // The sibling has no device.
        let isThere = ids.device != UniqueID.zero.description
        switch subject {
        case .device, .job, .run, .deadRun, .approval: if !isThere { return false }
        case .partner, .organization, .site, .apiKey, .user, .role, .binding, .task, .webhook, .oidcProvider,
            .oidcLink, .secret, .enrollmentToken:
            break
        }
        switch reach {
        case .platform: return true
        case .partner(let id): return ids.partner == id.description
        case .organization(let id): return ids.organization == id.description && subject != .partner
        case .organizations(let several):
            return several.contains { ids.organization == $0.description } && subject != .partner
        case .site(let id):
            switch subject {
            case .site, .device, .job, .run, .deadRun, .approval, .enrollmentToken:
                return ids.site == id.description
            case .apiKey, .binding, .secret: return ids.isSite && ids.site == id.description
            case .partner, .organization, .user, .role, .task, .webhook, .oidcProvider, .oidcLink:
                return false
            }
        }
    }

    /// How many rows there are of everything, and how often they were edited; without what an attempt itself
    /// leaves, and without a table that whoever asks changes itself.
    func counts(but table: String? = nil) async throws -> String {
        try await api.owner.query(
            """
            SELECT concat_ws(' ',
                (SELECT md5(string_agg(concat_ws('/', id, organization_id, site_id, state), ',' ORDER BY id))
                 FROM devices),
                (SELECT md5(string_agg(concat_ws('/', id, organization_id, state, closed), ',' ORDER BY id))
                 FROM sites),
                (SELECT md5(string_agg(concat_ws('/', id, partner_id, state, closed), ',' ORDER BY id))
                 FROM organizations),
                (SELECT count(*)::text || '/' || sum(version)::text FROM webhooks),
                (SELECT count(*)::text || '/' || count(previous_expires_at)::text FROM webhooks),
                (SELECT count(*)::text || '/' || sum(version)::text FROM partners),
                (SELECT count(*)::text || '/' || sum(version)::text FROM guards),
                (SELECT count(*)::text || '/' || sum(version)::text FROM organizations),
                (SELECT string_agg(weight::text || coalesce(running_cap::text, ''), ',' ORDER BY id)
                 FROM organizations),
                (SELECT count(*)::text || '/' || sum(version)::text FROM sites),
                (SELECT count(*)::text || '/' || sum(version)::text FROM devices),
                (SELECT count(*)::text || '/' || sum(version)::text || '/' || count(revoked_at)::text
                 FROM api_keys WHERE \(table)::text IS DISTINCT FROM 'api_keys'),
                (SELECT count(*)::text || '/' || sum(version)::text FROM users),
                (SELECT count(*)::text || '/' || sum(version)::text FROM roles),
                (SELECT count(*)::text || '/' || sum(version)::text FROM oidc_providers),
                (SELECT count(*)::text || '/' || sum(version)::text FROM oidc_links),
                (SELECT count(*) FROM role_bindings), (SELECT count(*) FROM sign_in_links),
                (SELECT count(*) FROM sessions),
                (SELECT count(*)::text || '/' || count(revoked_at)::text FROM enrollment_tokens),
                (SELECT count(*)::text || '/' || count(revoked_at)::text FROM certificates),
                (SELECT count(*)::text || '/' || count(cancel_requested_at)::text FROM jobs),
                (SELECT count(*)::text || '/' || sum(state)::text FROM approvals),
                (SELECT count(*) FROM runs), (SELECT count(*) FROM run_history),
                (SELECT count(*) FROM queue_controls), (SELECT count(*) FROM tasks),
                (SELECT count(*) FROM paused_jobs), (SELECT count(*) FROM revocations),
                (SELECT count(*)::text || '/' || sum(version)::text FROM secrets))
            """, scope: .platform
        ) { try $0.decode(String.self) }[0]
    }
}

extension MatrixTests.Ids {
    /// A partner, an organization or a site of its own in the place, for what would take the place's own.
    mutating func renewLevel(_ subject: MatrixTests.Subject?, _ admin: APIClient) async throws {
        switch subject {
        case .partner: partner = try await admin.createPartner(NewPartner(name: "p")).id.description
        case .organization:
            organization = try await admin.createOrganization(
                NewOrganization(name: "o", partnerId: #require(PartnerID(partner)))
            ).id.description
        case .site:
            site = try await admin.createSite(
                NewSite(name: "s", organizationId: #require(OrganizationID(organization)))
            ).id.description
        default: break
        }
    }

    /// A submission of the site that waits for a second person, made anew.
    mutating func renewApproval(_ api: TestAPI) async throws {
        guard let site = SiteID(site), device != UniqueID.zero.description else {
            approval = UniqueID.zero.description
            return
        }
        let asker = try await api.authenticator.principal(of: api.admin)
        let body = #"{"kind":"ping","target":{"siteId":"\#(site)"}}"#
        approval = try await Approvals(api.authenticator).ask(
            .job, body: Array(body.utf8), about: nil, idempotencyKey: nil, devices: 1, organizations: [],
            site: site, by: asker
        ).id.description
    }

    /// An enrolment token of the site, made anew.
    mutating func renewToken(_ admin: APIClient) async throws {
        let site = try #require(SiteID(site))
        enrollmentToken = try await admin.createEnrollmentToken(NewEnrollmentToken(siteId: site))
            .id.description
    }

    /// A webhook of the organization, made anew.
    mutating func renewWebhook(_ admin: APIClient) async throws {
        let organization = try #require(OrganizationID(organization))
        let home = Place(organizationId: organization)
        if let before = WebhookID(webhook) { try? await admin.remove(before) }  // it may be gone already
        webhook = try await admin.createWebhook(
            NewWebhook(url: "https://example.com/", events: [.jobEnded], home: home)
        ).webhook.id.description
    }

    /// An issuer of the organization, and a link of it, made anew.
    mutating func renewProvider(_ admin: APIClient) async throws {
        let organization = try #require(OrganizationID(organization))
        // A home has so many and no more.
        for before in try await admin.oidcProviders(PageOptions(limit: 500)).items
        where before.provider.home.organizationId == organization {
            for link in try await admin.oidcLinks(of: before.id).items { try await admin.remove(link.id) }
            try await admin.remove(before.id)
        }
        let provider = try await admin.createOIDCProvider(
            NewOIDCProvider(
                issuer: "https://id.example", home: Place(organizationId: organization),
                terms: OIDCTerms(name: UniqueID.v7(at: .now()).description, audiences: ["x"])))
        oidcProvider = provider.id.description
        oidcLink = try await admin.createOIDCLink(
            NewOIDCLink(
                providerId: provider.id, external: "viewer", target: OIDCLinkTarget(role: "viewer"))
        ).id.description
    }

    /// A secret of the organization, made anew.
    mutating func renewSecret(_ admin: APIClient) async throws {
        let organization = try #require(OrganizationID(organization))
        if let before = SecretID(secret) { try? await admin.remove(before) }  // it may be gone already
        let name = try #require(SecretName("s\(UInt32.random(in: 0 ... .max))"))
        secret = try await admin.createSecret(
            NewSecret(
                name: name, value: SecretValue("12345678"),
                home: isSite ? Place(siteId: SiteID(site)) : Place(organizationId: organization))
        ).id.description
    }

    /// A key, a person, a role and a binding of the organization, made anew.
    mutating func renew(_ admin: APIClient) async throws {
        let organization = try #require(OrganizationID(organization))
        let name = UniqueID.v7(at: .now()).description
        apiKey = try await admin.createAPIKey(
            NewAPIKey(
                name: name, organizationId: isSite ? nil : organization, siteId: isSite ? SiteID(site) : nil,
                permissions: ["devices:read"])
        ).id.description
        let home = Place(organizationId: organization)
        let user = try await admin.createUser(NewUser(email: "\(name)@x.y", name: name, home: home))
        self.user = user.id.description
        role =
            try await admin.createRole(
                NewRole(name: name, permissions: ["devices:read"], home: home)
            ).id?.description ?? ""
        binding = try await admin.bind(
            NewBinding(userId: user.id, role: "viewer", place: isSite ? Place(siteId: SiteID(site)) : home)
        ).id.description
    }
}
