import Domain
import Ledger
import Trust

extension Authenticator {
    /// How many providers of one issuer are looked at, the oldest first.
    static let providersMax = 64

    /// Whether a credential is a token of another issuer: three parts.
    static func isToken(_ credential: String) -> Bool {
        credential.utf8.count { $0 == UInt8(ascii: ".") } == 2
    }

    /// The principal of a token of another issuer.
    /// - Throws: `AccessError.unauthorized` for every token that opens nothing, and the database's errors.
    func principal(ofToken token: String) async throws -> Principal {
        guard token.utf8.count <= JSONWebToken.bytesMax else { throw refused(JWTRefusal(.tokenTooLong)) }
        let (time, hash) = (now(), SHA256.hash(Array(token.utf8)))
        if let known = remembered(hash, at: time) { return known }
        do {
            let principal = try await judge(token, at: time)
            remember(principal, of: hash, at: time)
            return principal
        } catch {
            remember(nil, of: hash, at: time)
            throw refused(error)
        }
    }

    /// What a caller is told of a refusal, whose code goes to `onTokenRefusal`.
    private func refused(_ error: any Error) -> any Error {
        switch error {
        case let refusal as JWTRefusal: onTokenRefusal(refusal.code.rawValue)
        case let failure as OIDCKeys.Failure: onTokenRefusal(failure.rawValue)
        case let refusal as TokenRefusal: onTokenRefusal(refusal.rawValue)
        default: return error
        }
        return AccessError.unauthorized
    }

    /// Asks each provider of the token's issuer: the oldest that makes something of it decides, unless one at
    /// home there, above or below says that the person is nobody any more. Else the refusal is the last
    /// one's.
    private func judge(_ token: String, at time: Instant) async throws -> Principal {
        guard let issuers else { throw TokenRefusal.noIssuers }
        let hint = try JSONWebToken.unverifiedHint(of: token)
        try await revocations.refresh(at: time)
        let providers = try await ledger.oidcProviders(
            issuer: hint.issuer, audiences: hint.audiences, authorizedParty: hint.authorizedParty,
            limit: Self.providersMax)
        var refusal: any Error = TokenRefusal.unknownIssuer
        var found: [(home: Level, principal: Principal)] = []
        var barred: [Level] = []
        for provider in providers where rights.holds(provider, at: time) {
            guard let home = provider.home.level else { continue }
            do {
                let keys = try await issuers.keys(
                    of: OIDCKeys.Source(issuer: provider.issuer, keySource: provider.keySource),
                    for: hint.keyID, at: time)
                let claims = try JSONWebToken.verify(token, keys: keys, rules: provider.rules(), at: time)
                found.append((home, try await rights.principal(of: claims, by: provider, at: time)))
            } catch {
                guard error is JWTRefusal || error is OIDCKeys.Failure || error is TokenRefusal else {
                    throw error
                }
                if case TokenRefusal.noPerson = error { barred.append(home) }
                refusal = error
            }
        }
        for (home, principal) in found {
            if try await !isBarred(home, by: barred) { return principal }
        }
        throw barred.isEmpty ? refusal : TokenRefusal.noPerson
    }

    private func isBarred(_ home: Level, by barred: [Level]) async throws -> Bool {
        for other in barred {
            if try await rights.lies(home, in: other) { return true }
            if try await rights.lies(other, in: home) { return true }
        }
        return false
    }
}

/// Why a token that may well hold opens nothing here.
enum TokenRefusal: String, Error {
    /// This process believes no other issuer.
    case noIssuers
    /// No provider that is believed has this issuer.
    case unknownIssuer
    /// The person that the token stands for is disabled, or gone, or not of the provider's home.
    case noPerson
    /// The token names no organization and role, or they stand for nothing here.
    case nothingLinked
    /// The ID token is not of the sign-in that it came for.
    case wrongNonce
    /// The issuer has not finished the sign-in that the token is of.
    case pendingSession
}

extension OIDCProviderRow {
    /// What is asked of tokens.
    /// - Throws: `TrustError` if the terms would believe what was issued to anybody.
    func rules() throws(TrustError) -> JWTRules {
        let use: JWTRules.Use =
            switch terms.use {
            case .accessToken: .accessToken
            case .sessionToken: .sessionToken
            case .idToken: .idToken
            }
        return try JWTRules(
            issuer: issuer, audiences: Set(terms.audiences), authorizedParties: Set(terms.authorizedParties),
            use: use, leewaySeconds: terms.leewaySeconds, lifetimeSecondsMax: terms.lifetimeSeconds)
    }
}
