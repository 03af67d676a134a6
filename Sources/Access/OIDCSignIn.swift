package import Domain
package import Ledger
import Postgres
import Trust

/// Signs people in at an issuer's own pages: the code flow of OpenID Connect (Core, 3.1) with PKCE (RFC
/// 7636).
///
/// Nothing is kept between the two steps: what the second needs is sealed into a text, the *flow*, that
/// whoever began keeps. So a code that comes to somebody who did not begin is of no use, and no row can be
/// planted.
package struct OIDCSignIn: Sendable {
    /// How long people have at the issuer's pages.
    package static let lifetime = Duration.seconds(600)
    /// What is asked for at the issuer.
    static let scope = "openid email"

    /// What the second step needs of the first.
    private struct Flow {
        let provider: OIDCProviderID
        let version: Int
        let redirectURL: String
        let state: String
        let nonce: String
        let verifier: String
        let expiresAt: Instant

        /// What it is sealed for; no provider's secret has such a name.
        static let label = SecretLabel(kind: .oidc, name: "sign-in", version: 1)

        /// One field a line: none has a line's end in it.
        var text: String {
            [
                provider.description, String(version), redirectURL, state, nonce, verifier,
                String(expiresAt.microseconds),
            ].joined(separator: "\n")
        }

        init(provider: OIDCProviderRow, redirectURL: String, expiresAt: Instant) {
            func random() -> String { Base64URL.encode(randomBytes(32)) }
            self.provider = provider.id
            version = provider.version
            self.redirectURL = redirectURL
            (state, nonce, verifier) = (random(), random(), random())
            self.expiresAt = expiresAt
        }

        init?(text: String) {
            let fields = text.split(separator: "\n", omittingEmptySubsequences: false).map(String.init)
            guard fields.count == 7, let provider = OIDCProviderID(fields[0]), let version = Int(fields[1]),
                let end = Int64(fields[6])
            else { return nil }
            (self.provider, self.version, redirectURL) = (provider, version, fields[2])
            (state, nonce, verifier) = (fields[3], fields[4], fields[5])
            expiresAt = Instant(microseconds: end)
        }
    }

    /// Where a person goes, and what whoever began keeps until the person is back.
    package struct Begun: Sendable {
        /// The issuer's page.
        package let authorizationURL: String
        /// What the second step needs.
        package let flow: String
        /// Until when.
        package let expiresAt: Instant
    }

    private let signIn: SignIn
    private var authenticator: Authenticator { signIn.authenticator }
    private var ledger: Ledger { authenticator.ledger }
    private var rights: Rights { authenticator.rights }

    /// Signs in as `signIn` does.
    package init(_ signIn: SignIn) { self.signIn = signIn }

    // MARK: First step

    /// Says where to go.
    /// - Throws: `notFound` for a provider by which nobody signs in, `invalid` for an address to come back to
    ///   that it does not name exactly.
    package func begin(_ id: OIDCProviderID, redirectURL: String) async throws -> Begun {
        let time = authenticator.now()
        let (provider, clientID, document) = try await provider(id, at: time)
        guard provider.terms.redirectURLs.contains(where: { $0.utf8.elementsEqual(redirectURL.utf8) }) else {
            throw AccessError(
                .invalid, field: "redirectUrl", "is none of the addresses that the provider names")
        }
        let flow = Flow(provider: provider, redirectURL: redirectURL, expiresAt: time + Self.lifetime)
        let query = Self.form([
            ("response_type", "code"), ("client_id", clientID), ("redirect_uri", redirectURL),
            ("scope", Self.scope), ("state", flow.state), ("nonce", flow.nonce),
            ("code_challenge", Base64URL.encode(SHA256.hash(Array(flow.verifier.utf8)))),
            ("code_challenge_method", "S256"),
        ])
        guard let page = document.authorizationURL, !page.contains("#") else { throw Self.unusable }
        let sealed = try signIn.sealing.seal(SecretBytes(Array(flow.text.utf8)), for: Flow.label)
        return Begun(
            authorizationURL: page + (page.contains("?") ? "&" : "?") + query,
            flow: Base64URL.encode(sealed.bytes), expiresAt: flow.expiresAt)
    }

    /// A provider by which people sign in.
    private func provider(
        _ id: OIDCProviderID, at time: Instant
    ) async throws -> (OIDCProviderRow, clientID: String, IssuerDocument) {
        try await authenticator.revocations.refresh(at: time)
        guard let issuers = authenticator.issuers,
            let provider = try await ledger.oidcProvider(id, scope: .platform),
            rights.holds(provider, at: time), let clientID = provider.terms.clientID
        else {
            throw AccessError(.notFound, field: "providerId", "names no provider by which people sign in")
        }
        do {
            return (provider, clientID, try await issuers.document(of: Self.source(of: provider), at: time))
        } catch let failure as OIDCKeys.Failure {
            authenticator.onTokenRefusal(failure.rawValue)
            throw Self.unusable
        }
    }

    private static func source(of provider: OIDCProviderRow) -> OIDCKeys.Source {
        OIDCKeys.Source(issuer: provider.issuer, keySource: provider.keySource)
    }

    private static let unusable = AccessError(
        .overloaded, "the issuer cannot be reached just now, or does not say where people sign in")

    // MARK: Second step

    /// Begins a session for the person whom the issuer sent back with a code.
    /// - Throws: `invalid` where what came back is not of this flow, `unauthorized` for whatever the issuer
    ///   says of nobody here, `secondFactorRequired` where only that is missing, `forbidden` for who has no
    ///   account here or may do more than the provider may say.
    package func finish(
        _ text: String, code: String, state: String, issuer: String?, secondFactor: String?,
        _ origin: SignIn.Origin
    ) async throws -> (row: SessionRow, secret: String) {
        let time = authenticator.now()
        let address = SignIn.subject("oidc", origin.address)
        guard try await ledger.beginSignIn([(address, SignIn.addressFailuresFree)]) else {
            throw AccessError.throttled
        }
        let flow = try flow(text, state: state, at: time)
        let (provider, clientID, document) = try await provider(flow.provider, at: time)
        guard provider.version == flow.version else { throw Self.badFlow }
        // Who is sent back by another issuer than the one that was asked brings that one's code (RFC 9207).
        guard issuer.map({ $0.utf8.elementsEqual(provider.issuer.utf8) }) ?? !document.namesItselfInResponses
        else {
            throw AccessError(
                .invalid, field: "issuer",
                "is not the issuer of this sign-in, or is missing: send iss as it came")
        }
        do {
            let claims = try await claims(flow, code, provider, clientID, document, at: time)
            let principal = try await rights.principal(of: claims, by: provider, at: time)
            let user = try await person(principal, at: time)
            let hasFactor = try await signIn.showsSecondFactor(of: user, code: secondFactor, at: time)
            try await ledger.endSignIn(account: address, address: address)
            return try await signIn.begin(user, origin, steppedUpAt: hasFactor ? time : nil, at: time)
        } catch let refusal as JWTRefusal {
            throw refused(refusal.code.rawValue)
        } catch let refusal as TokenRefusal {
            throw refused(refusal.rawValue)
        } catch let failure as OIDCKeys.Failure {
            let error = refused(failure.rawValue)
            throw failure == .codeRefused ? error : Self.unusable
        }
    }

    private func refused(_ code: String) -> AccessError {
        authenticator.onTokenRefusal(code)
        return AccessError.notSignedIn
    }

    private static let badFlow = AccessError(
        .invalid, field: "flow", "is unknown, has expired, or is of a provider that was edited: begin again")

    private func flow(_ text: String, state: String, at time: Instant) throws -> Flow {
        guard let bytes = Base64URL.decode(text) else { throw Self.badFlow }
        let opened: SecretBytes
        do {
            opened = try signIn.sealing.open(SealedSecret(bytes: bytes), for: Flow.label)
        } catch {
            throw Self.badFlow
        }
        guard let flow = Flow(text: String(decoding: opened.copy(), as: UTF8.self)), time < flow.expiresAt
        else { throw Self.badFlow }
        guard constantTimeEqual(Array(flow.state.utf8), Array(state.utf8)) else {
            throw AccessError(.invalid, field: "state", "is not the one that this sign-in began with")
        }
        return flow
    }

    /// The claims of the ID token that the issuer gives for a code (OpenID Connect Core, 3.1.3.7).
    private func claims(
        _ flow: Flow, _ code: String, _ provider: OIDCProviderRow, _ clientID: String,
        _ document: IssuerDocument, at time: Instant
    ) async throws -> JWTClaims {
        guard let issuers = authenticator.issuers, let tokenURL = document.tokenURL else {
            throw OIDCKeys.Failure.badDiscovery
        }
        let secret = try provider.terms.sealed.map { bytes in
            let opened = try signIn.sealing.open(SealedSecret(bytes: bytes), for: provider.secretLabel)
            return String(decoding: opened.copy(), as: UTF8.self)
        }
        let form = Self.form([
            ("grant_type", "authorization_code"), ("code", code), ("redirect_uri", flow.redirectURL),
            ("client_id", clientID), ("code_verifier", flow.verifier),
        ])
        // RFC 6749, 2.3.1: name and secret are encoded as a form is before they are joined.
        let authorization = secret.map { secret in
            "Basic " + Self.base64(Array("\(Self.encoded(clientID)):\(Self.encoded(secret))".utf8))
        }
        let answer = try await issuers.exchange(
            form, at: tokenURL, of: provider.issuer, authorization: authorization)
        let hint = try JSONWebToken.unverifiedHint(of: answer.idToken)
        let keys = try await issuers.keys(of: Self.source(of: provider), for: hint.keyID, at: time)
        let rules = try JWTRules(
            issuer: provider.issuer, audiences: [clientID], use: .idToken,
            leewaySeconds: provider.terms.leewaySeconds, lifetimeSecondsMax: provider.terms.lifetimeSeconds)
        let claims = try JSONWebToken.verify(answer.idToken, keys: keys, rules: rules, at: time)
        guard let nonce = try claims.text(at: ClaimPath("nonce")),
            constantTimeEqual(Array(nonce.utf8), Array(flow.nonce.utf8))
        else { throw TokenRefusal.wrongNonce }
        // A token for several is for whom it was issued to, and that is said.
        let party = claims.authorizedParty ?? (claims.audiences.count == 1 ? clientID : "")
        guard party.utf8.elementsEqual(clientID.utf8) else { throw JWTRefusal(.wrongAuthorizedParty) }
        return claims
    }

    /// The account that a session can be of: its rights are the person's whole ones, so that all of them have
    /// to lie where the provider is at home.
    private func person(_ principal: Principal, at time: Instant) async throws -> UserID {
        guard let user = try await ledger.user(UserID(principal.id.value), scope: .platform) else {
            throw AccessError(
                .forbidden, "you have no account here: a session is somebody's who has one; call with a token"
            )
        }
        guard let held = try await rights.reach(of: user, at: time),
            try await rights.inUse(held) == principal.reach
        else {
            throw AccessError(
                .forbidden,
                "you may do more than this provider may say: sign in by password, or call with a token")
        }
        return user.id
    }

    // MARK: Forms

    private static func form(_ fields: [(String, String)]) -> String {
        fields.map { "\($0.0)=\(encoded($0.1))" }.joined(separator: "&")
    }

    private static func base64(_ bytes: [UInt8]) -> String {
        let text = Base64URL.encode(bytes).replacing("-", with: "+").replacing("_", with: "/")
        return text + String(repeating: "=", count: (4 - text.utf8.count % 4) % 4)
    }

    /// Percent-encoded but for what RFC 3986, 2.3 calls unreserved: good for a query and for a form.
    private static func encoded(_ text: String) -> String {
        var bytes: [UInt8] = []
        for byte in text.utf8 {
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."),
                UInt8(ascii: "_"), UInt8(ascii: "~"):
                bytes.append(byte)
            default: bytes += Array("%\(Hex.encode([byte]).uppercased())".utf8)
            }
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
