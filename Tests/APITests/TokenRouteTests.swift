import Access
import Client
import Domain
import Foundation
import Outbound
import TestSupport
import Testing
import Trust
import Wire

@testable import API

@Suite("Callers with tokens of other issuers")
struct TokenRouteTests {
    /// An API that believes the issuer at a server, and a session of it in the first tenant's organization.
    private func with(
        _ body: (TestAPI, OIDCProvider, APIClient, @escaping ([String: String]) -> String) async throws ->
            Void
    ) async throws {
        let (server, signer) = (try ProviderServer(), TokenSigner("a"))
        try server.publish([signer.jwk])
        let keys = OIDCKeys(OIDCKeys.Configuration(trustedIssuers: [server.url]))
        try await TestAPI.with(issuers: keys) { api in
            let client = try await api.client(.partner(api.one.partner))
            let provider = try await client.createOIDCProvider(
                NewOIDCProvider(
                    issuer: server.url, home: Place(partnerId: api.one.partner), preset: .clerk,
                    terms: OIDCTerms(name: "clerk", authorizedParties: ["https://app.example"])))
            try await body(api, provider, client) { claims in
                signer.token(sessionClaims(issuer: server.url, at: .now(), claims))
            }
        }
        keys.close()
    }

    private let member = ["org_id": #""org_1""#, "org_role": #""org:member""#]

    @Test("a session reads its organization's devices; another's do not exist")
    func endToEnd() async throws {
        try await with { api, provider, client, token in
            let organization = try await client.createOIDCLink(
                NewOIDCLink(
                    providerId: provider.id, external: "org_1",
                    target: OIDCLinkTarget(organizationId: api.one.organization)))
            _ = try await client.createOIDCLink(
                NewOIDCLink(
                    providerId: provider.id, external: "org:member", target: OIDCLinkTarget(role: "viewer")))
            let session = APIClient(url: api.url, key: token(member))
            #expect(try await session.device(api.one.device).id == api.one.device)
            let key = token(member)
            #expect(try await api.call("GET", "/v1/devices/\(api.other.device)", key: key).status == 404)
            let devices = try Page<Device>.decode(try await api.call("GET", "/v1/devices", key: key).body)
            #expect(devices.items.map(\.id) == [api.one.device])
            let caller = try await session.whoami()
            #expect(caller.kind == "user" && caller.permissions.allSatisfy { $0.ids.count == 1 })
            let ping = #"{"kind":"ping","target":{"deviceIds":["\#(api.one.device)"]}}"#
            #expect(try await api.call("POST", "/v1/jobs", key: key, body: ping).status == 403)
            // Without its organization it is nobody, and is told what everybody is told.
            let nobody = try api.problem(try await api.call("GET", "/v1/devices", key: token([:])))
            let unknown = try api.problem(try await api.call("GET", "/v1/devices", key: "crmm_x"))
            #expect(nobody.status == 401 && nobody.detail == unknown.detail)
            try await client.remove(organization.id)
            #expect(try await api.call("GET", "/v1/devices", key: key).status == 401)
        }
    }

    @Test("a token stands once in the header, and never in the query")
    func oneHeader() async throws {
        try await with { api, provider, client, token in
            _ = try await client.createOIDCLink(
                NewOIDCLink(
                    providerId: provider.id, external: "org_1",
                    target: OIDCLinkTarget(organizationId: api.one.organization)))
            _ = try await client.createOIDCLink(
                NewOIDCLink(
                    providerId: provider.id, external: "org:member", target: OIDCLinkTarget(role: "viewer")))
            let text = token(member)
            let header = ("Authorization", "Bearer \(text)")
            let once = try await api.call("GET", "/v1/sites", key: .some(nil), headers: [header])
            let twice = try await api.call("GET", "/v1/sites", key: .some(nil), headers: [header, header])
            let query = try await api.call("GET", "/v1/sites?access_token=\(text)", key: .some(nil))
            #expect(once.status == 200)
            #expect(twice.status == 401 && query.status == 401)
        }
    }

    @Test("providers and links are made, listed, shown, edited by version and taken away; others see none")
    func editing() async throws {
        try await with { api, provider, client, _ in
            let link = try await client.createOIDCLink(
                NewOIDCLink(
                    providerId: provider.id, external: "org:member", target: OIDCLinkTarget(role: "viewer")))
            #expect(try await client.oidcProviders().items == [provider])
            #expect(try await client.oidcProvider(provider.id) == provider)
            #expect(try await client.oidcLinks(of: provider.id).items == [link])
            #expect(try await client.oidcLink(link.id).kind == .role)
            let stranger = try await api.client(.partner(api.other.partner))
            #expect(try await stranger.oidcProviders().items.isEmpty)
            #expect(try await refusal { _ = try await stranger.oidcLink(link.id) }.status == 404)
            #expect(
                try await refusal { _ = try await stranger.edit(provider.id, OIDCTerms(name: "x")) }.status
                    == 404)
            let inside = try await api.client(.organization(api.one.organization))
            #expect(try await refusal { _ = try await inside.oidcProvider(provider.id) }.status == 404)

            let edited = try await client.edit(provider.id, OIDCTerms(disabled: true), version: 1)
            #expect(edited.version == 2 && edited.provider.terms.disabled == true)
            #expect(edited.provider.terms.authorizedParties == ["https://app.example"])
            let stale = try await refusal { _ = try await client.edit(provider.id, OIDCTerms(), version: 1) }
            #expect(stale.status == 412)
            let changed = try await client.edit(link.id, OIDCLinkTarget(role: "technician"), version: 1)
            #expect(changed.link.target.role == "technician" && changed.version == 2)
            let other = try await refusal {
                _ = try await client.edit(link.id, OIDCLinkTarget(organizationId: api.one.organization))
            }
            #expect(other.status == 422)
            #expect(try await refusal { try await client.remove(provider.id) }.status == 409)
            try await client.remove(link.id)
            try await client.remove(provider.id)
            #expect(try await client.oidcProviders().items.isEmpty)
        }
    }

    @Test("a person signs in at the issuer's pages, and has a session in a cookie or as a bearer")
    func signIn() async throws {
        let (server, signer) = (try ProviderServer(), TokenSigner("a"))
        try server.publish([signer.jwk])
        let keys = OIDCKeys(OIDCKeys.Configuration(trustedIssuers: [server.url]))
        try await TestAPI.with(issuers: keys) { api in
            let client = APIClient(url: api.url, key: api.admin)
            defer { client.close() }
            let (person, other, _) = try await api.person("ann@example.com", .technician, on: .platform)
            other.close()
            let provider = try await client.createOIDCProvider(
                NewOIDCProvider(
                    issuer: server.url,
                    terms: OIDCTerms(
                        name: "id", audiences: ["api"], clientId: "app",
                        redirectUrls: ["https://app.example/"], clientSecret: "hush")))
            #expect(provider.provider.terms.clientSecret == nil)
            #expect(provider.provider.terms.clientId == "app")
            let shown = try await api.call("GET", "/v1/oidc-providers/\(provider.id)")
            #expect(!String(decoding: shown.body, as: UTF8.self).contains("hush"))
            _ = try await client.createOIDCLink(
                NewOIDCLink(
                    providerId: provider.id, external: "ann", target: OIDCLinkTarget(userId: person.id)))
            let stranger = APIClient(url: api.url, key: nil)
            defer { stranger.close() }
            for inCookie in [false, true] {
                let begun = try await stranger.beginOIDCSignIn(
                    NewOIDCSignIn(providerId: provider.id, redirectUrl: "https://app.example/"))
                let items = URLComponents(string: begun.authorizationUrl)?.queryItems ?? []
                func item(_ name: String) -> String { items.first { $0.name == name }?.value ?? "" }
                let now = Instant.now().seconds
                try server.grant(
                    code: "c", challenge: item("code_challenge"), redirectURL: "https://app.example/",
                    clientID: "app", authorization: "Basic YXBwOmh1c2g=",
                    idToken: signer.token([
                        "iss": "\"\(server.url)\"", "sub": "\"ann\"", "aud": "\"app\"", "iat": "\(now)",
                        "exp": "\(now + 60)", "nonce": "\"\(item("nonce"))\"",
                    ]))
                let body = NewOIDCSession(
                    flow: begun.flow, code: "c", state: item("state"), cookie: inCookie)
                let answer = try await api.call(
                    "POST", "/v1/oidc-sign-ins/session", key: .some(nil),
                    body: String(decoding: body.json, as: UTF8.self))
                #expect(answer.status == 201)
                let session = try CreatedSession.decode(answer.body)
                let cookie = answer.header("set-cookie") ?? ""
                #expect(session.userId == person.id)
                #expect((session.token == nil) == inCookie)
                #expect(cookie.hasPrefix("__Host-crmm_session=") == inCookie)
                if let token = session.token {
                    let caller = APIClient(url: api.url, key: token)
                    #expect(try await caller.whoami().id.value == person.id.value)
                    caller.close()
                }
            }
            let wrong = try await refusal {
                _ = try await stranger.beginOIDCSignIn(
                    NewOIDCSignIn(providerId: provider.id, redirectUrl: "https://evil.example/"))
            }
            #expect(wrong.status == 422 && wrong.field == "redirectUrl")
        }
        keys.close()
    }
}
