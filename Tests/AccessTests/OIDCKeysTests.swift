import Domain
import Outbound
import TestSupport
import Testing
import Trust

@testable import Access

@Suite("Keys of issuers")
struct OIDCKeysTests {
    private let now = Instant(seconds: 1_900_000_000)
    private let clock = ManualClock()

    private func discovery(_ issuer: String) -> OIDCKeys.Source {
        OIDCKeys.Source(issuer: issuer, keySource: .discovery)
    }

    /// The code with which keys are refused; `nil` if there are some.
    private func code(
        _ keys: OIDCKeys, _ source: OIDCKeys.Source, _ keyID: String = "a"
    ) async throws -> String? {
        do {
            _ = try await keys.keys(of: source, for: keyID, at: clock.now)
            return nil
        } catch let refusal as JWTRefusal {
            return refusal.code.rawValue
        } catch let failure as OIDCKeys.Failure {
            return failure.rawValue
        }
    }

    private func with(
        clerkSecret: String? = nil, isTrusted: Bool = true, timeout: Duration = .seconds(5),
        _ body: (ProviderServer, OIDCKeys) async throws -> Void
    ) async throws {
        let server = try ProviderServer()
        let keys = OIDCKeys(
            OIDCKeys.Configuration(
                trustedIssuers: isTrusted ? [server.url, server.tlsURL, "\(server.url)/"] : [],
                clerkSecret: clerkSecret, certificateAuthorityPath: server.authority,
                clerkKeysURL: "\(server.url)/clerk", timeout: timeout))
        try await body(server, keys)
        keys.close()
    }

    @Test("a hundred callers at once ask the issuer once, for its keys and for one that it lacks")
    func singleFlight() async throws {
        try await with { server, keys in
            try server.publish([TokenSigner("a").jwk])
            func callAtOnce(_ keyID: String) async throws -> Set<String?> {
                try await withThrowingTaskGroup(of: String?.self) { group in
                    for _ in 0..<100 { group.addTask { try await code(keys, discovery(server.url), keyID) } }
                    return try await group.reduce(into: []) { $0.insert($1) }
                }
            }
            #expect(try await callAtOnce("a") == [nil])
            #expect(try server.requests("/keys").count == 1)
            clock.advance(.seconds(60))
            #expect(try await callAtOnce("b") == ["unknownKey"])
            #expect(try server.requests("/keys").count == 2)
            #expect(try server.requests("/.well-known/openid-configuration").count == 2)
        }
    }

    @Test("names of no key make the issuer be asked once a minute, and a new key is found then")
    func unknownKeys() async throws {
        try await with { server, keys in
            try server.publish([TokenSigner("a").jwk])
            #expect(try await code(keys, discovery(server.url)) == nil)
            for name in 0..<50 {
                #expect(try await code(keys, discovery(server.url), "\(name)") == "unknownKey")
            }
            #expect(try server.requests("/keys").count == 1)
            try server.publish([TokenSigner("a").jwk, TokenSigner("b").jwk])
            clock.advance(.milliseconds(59_999))
            #expect(try await code(keys, discovery(server.url), "b") == "unknownKey")
            clock.advance(.milliseconds(1))
            #expect(try await code(keys, discovery(server.url), "b") == nil)
            #expect(try server.requests("/keys").count == 2)
        }
    }

    @Test("a key that the issuer took away is believed no longer than its document says, within bounds")
    func removedKey() async throws {
        for (said, seconds) in [
            ("max-age=600", 600), ("max-age=1", 300), ("", 300), ("max-age=999999", 86_400),
        ] {
            try await with { server, keys in
                try server.publish([TokenSigner("a").jwk], cacheControl: said)
                #expect(try await code(keys, discovery(server.url)) == nil)
                try server.publish([TokenSigner("b").jwk], cacheControl: said)
                clock.advance(.seconds(Int64(seconds) - 1))
                #expect(try await code(keys, discovery(server.url)) == nil, "\(said)")
                clock.advance(.seconds(1))
                #expect(try await code(keys, discovery(server.url)) == "unknownKey", "\(said)")
            }
        }
    }

    @Test("while an issuer is down its keys hold for the stale limit, then nothing is believed")
    func down() async throws {
        try await with { server, keys in
            try server.publish([TokenSigner("a").jwk])
            #expect(try await code(keys, discovery(server.url)) == nil)
            try server.set("/keys", "", status: 503)
            clock.advance(.seconds(600))
            #expect(try await code(keys, discovery(server.url)) == nil)
            #expect(try await code(keys, discovery(server.url)) == nil)
            // Not asked again within ten seconds.
            #expect(try server.requests("/keys").count == 2)
            clock.advance(.seconds(3_599))
            #expect(try await code(keys, discovery(server.url)) == nil)
            clock.advance(.seconds(1))
            #expect(try await code(keys, discovery(server.url)) == "unavailable")
            try server.publish([TokenSigner("a").jwk])
            clock.advance(.seconds(9))
            #expect(try await code(keys, discovery(server.url)) == nil)
        }
    }

    @Test("the issuer's document must name it exactly, and keys at an address that may be asked")
    func discoveryDocument() async throws {
        try await with { server, keys in
            let path = "/.well-known/openid-configuration"
            for document in [
                #"{"issuer":"https://other.example","jwks_uri":"\#(server.url)/keys"}"#,
                #"{"issuer":"\#(server.url)/","jwks_uri":"\#(server.url)/keys"}"#,
                #"{"issuer":"\#(server.url)"}"#,
                #"{"issuer":"\#(server.url)","jwks_uri":"file:///etc/passwd"}"#,
                #"{"issuer":"\#(server.url)","issuer":"\#(server.url)","jwks_uri":"\#(server.url)/keys"}"#,
                "[]", "",
            ] {
                try server.set(path, document)
                #expect(try await code(keys, discovery(server.url)) == "unavailable", "\(document)")
                clock.advance(.seconds(10))
            }
            #expect(try server.requests("/keys").count == 0)
            try server.publish([TokenSigner("a").jwk])
            #expect(try await code(keys, discovery(server.url)) == nil)
            // An issuer that ends in a slash is another one.
            #expect(try await code(keys, discovery("\(server.url)/")) == "unavailable")
        }
    }

    @Test("redirects, errors, what is too large, and who does not answer bring no keys")
    func badAnswers() async throws {
        try await with(timeout: .milliseconds(300)) { server, keys in
            try server.publish([TokenSigner("a").jwk])
            let good = #"{"keys":[\#(TokenSigner("a").jwk)]}"#
            try server.set("/elsewhere", good)
            func refused() async throws -> Bool {
                defer { clock.advance(.seconds(10)) }
                return try await code(keys, discovery(server.url)) == "unavailable"
            }
            try server.set("/keys", good, status: 302, location: "\(server.url)/elsewhere")
            #expect(try await refused())
            #expect(try server.requests("/elsewhere").count == 0)
            try server.set("/keys", good, status: 500)
            #expect(try await refused())
            try server.set("/keys", String(repeating: " ", count: JSONWebKeySet.bytesMax) + good)
            #expect(try await refused())
            try server.set("/keys", "", hangs: true)
            #expect(try await refused())
            try server.set("/keys", good)
            #expect(try await refused() == false)
        }
    }

    @Test("symmetric and private keys are passed over")
    func secrets() async throws {
        try await with { server, keys in
            let symmetric = #"{"kty":"oct","kid":"s","k":"c2VjcmV0"}"#
            try server.publish([symmetric, TokenSigner("p").privateJWK, TokenSigner("a").jwk])
            let set = try await keys.keys(of: discovery(server.url), for: "a", at: clock.now)
            #expect(set.keys.map(\.id) == ["a"])
            #expect(set.passedOver.map(\.reason) == [.secret, .secret])
        }
    }

    @Test("a private address is refused unless the operator trusts the issuer there, then also its authority")
    func addresses() async throws {
        for isTrusted in [false, true] {
            try await with(isTrusted: isTrusted) { server, keys in
                try server.publish([TokenSigner("a").jwk], issuer: server.tlsURL)
                #expect(keys.isIssuer(server.tlsURL))
                #expect(keys.isIssuer(server.url) == isTrusted)
                let code = try await code(keys, discovery(server.tlsURL))
                #expect(code == (isTrusted ? nil : "unavailable"))
                #expect(try server.requests("/keys").count == (isTrusted ? 1 : 0))
            }
        }
    }

    @Test("Clerk's API is asked with the operator's secret, and not without one")
    func clerk() async throws {
        for secret in [nil, "sk_test_1"] {
            try await with(clerkSecret: secret) { server, keys in
                try server.set("/clerk", #"{"keys":[\#(TokenSigner("a").jwk)]}"#)
                let source = OIDCKeys.Source(issuer: "https://clerk.example", keySource: .clerkAPI)
                #expect(try await code(keys, source) == (secret == nil ? "unavailable" : nil))
                let requests = try server.requests("/clerk")
                #expect(requests.count == (secret == nil ? 0 : 1))
                #expect(requests.authorization == (secret == nil ? "" : "Bearer sk_test_1"))
            }
        }
    }

    @Test("names of no key are remembered up to a limit")
    func negativeCache() throws {
        var cache = KeyCache()
        let keys = try JSONWebKeySet(document: Array(#"{"keys":[]}"#.utf8), issuer: "https://i.example")
        for name in 0..<1_000 { cache.take(keys, nil, for: "\(name)", lifetime: .seconds(600), at: now) }
        #expect(cache.unknownCount == KeyCache.unknownMax)
        // One that is remembered does not make the issuer be asked again, also when another would.
        if case .unknownKey = cache.decide("999", at: now + .seconds(61)) {
        } else {
            Issue.record("asked again")
        }
        if case .fetch = cache.decide("other", at: now + .seconds(61)) {} else { Issue.record("not asked") }
        if case .fetch = cache.decide("999", at: now + .seconds(121)) {
        } else {
            Issue.record("never asked again")
        }
    }

    @Test("what cannot be an issuer")
    func issuers() {
        let keys = OIDCKeys(OIDCKeys.Configuration())
        defer { keys.close() }
        #expect(keys.isIssuer("https://id.example/tenant"))
        for text in [
            "", "http://id.example", "https://id.example?x", "https://id.example#x", "https://a@id.example",
            "https://id.example/ x", "HTTPS://id.example", "https://" + String(repeating: "x", count: 505),
        ] { #expect(!keys.isIssuer(text), "\(text)") }
    }
}
