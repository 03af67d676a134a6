package import Domain
package import Wire

/// What a believed token says: its signature held, and its claims are those that the rules ask for.
package struct JWTClaims: Sendable {
    /// Who issued it, to whom, for whom.
    package let issuer: String
    package let subject: String
    package let audiences: [String]
    package let authorizedParty: String?
    /// When it ends, begins and was issued.
    package let expiresAt: Instant
    package let notBefore: Instant?
    package let issuedAt: Instant?
    /// Its own name, where the issuer gives one.
    package let tokenID: String?
    private let json: JSON

    /// A claim by its name; `nil` where there is none.
    package subscript(name: String) -> JSON? { json.member(name) }

    /// A claim by its path; `nil` where there is none.
    package subscript(at path: ClaimPath) -> JSON? {
        path.names.reduce(json as JSON?) { $0?.member($1) }
    }

    /// Whether there is a claim of this name.
    package func has(_ name: String) -> Bool { json.member(name) != nil }

    /// Whether a claim is true, and not only a text that says so.
    package func isTrue(_ name: String) -> Bool { json.member(name) == .bool(true) }

    /// The text at a path; `nil` for other values.
    package func text(at path: ClaimPath) -> String? {
        if case .string(let text)? = self[at: path] { text } else { nil }
    }

    /// The text at a path, or the texts of an array there; what else is in it is left out.
    package func texts(at path: ClaimPath) -> [String] {
        guard case .array(let several)? = self[at: path] else { return text(at: path).map { [$0] } ?? [] }
        return several.compactMap { if case .string(let text) = $0 { text } else { nil } }
    }

    /// Judges the claims of a token whose signature holds.
    init(_ json: JSON, rules: JWTRules, at now: Instant) throws(JWTRefusal) {
        self.json = json
        guard case .string(let issuer)? = json.member("iss"), isSame(issuer, rules.issuer) else {
            throw JWTRefusal(.wrongIssuer)
        }
        self.issuer = issuer
        audiences = try Self.audiences(json, rules)
        authorizedParty = try Self.authorizedParty(json, rules)
        try Self.checkUse(json, rules.use)
        (expiresAt, notBefore, issuedAt) = try Self.times(json, rules, now)
        subject = try Self.name(json.member("sub"), .badSubject)
        tokenID = json.member("jti") == nil ? nil : try Self.name(json.member("jti"), .badTokenID)
    }

    /// For whom a token is: one text, or an array of nothing but texts.
    static func audiences(_ json: JSON) throws(JWTRefusal) -> [String] {
        switch json.member("aud") {
        case nil: return []
        case .string(let one): return [one]
        case .array(let several):
            let audiences = several.compactMap { if case .string(let one) = $0 { one } else { nil } }
            guard audiences.count == several.count else { throw JWTRefusal(.wrongAudience) }
            return audiences
        default: throw JWTRefusal(.wrongAudience)
        }
    }

    private static func audiences(_ json: JSON, _ rules: JWTRules) throws(JWTRefusal) -> [String] {
        let audiences = try audiences(json)
        let isMeant =
            rules.audiences.isEmpty
            ? audiences.isEmpty
            : audiences.contains { audience in rules.audiences.contains { isSame($0, audience) } }
        guard isMeant else { throw JWTRefusal(.wrongAudience) }
        return audiences
    }

    private static func authorizedParty(_ json: JSON, _ rules: JWTRules) throws(JWTRefusal) -> String? {
        let member = json.member("azp")
        var party: String?
        if case .string(let text)? = member { party = text }
        guard member == nil || party != nil else { throw JWTRefusal(.wrongAuthorizedParty) }
        guard !rules.authorizedParties.isEmpty else { return party }
        guard let party, rules.authorizedParties.contains(where: { isSame($0, party) }) else {
            throw JWTRefusal(.wrongAuthorizedParty)
        }
        return party
    }

    /// The marks by which issuers tell ID, refresh and access tokens apart beside the header's `typ`.
    private static func checkUse(_ json: JSON, _ use: JWTRules.Use) throws(JWTRefusal) {
        let marks = ["typ", "token_use", "token_type"].compactMap { json.member($0) }
        for mark in marks {
            guard case .string(let word) = mark else { throw JWTRefusal(.wrongUse) }
            let isAllowed =
                switch use {
                case .idToken: ["id", "id_token"].contains(word.lowercased())
                case .accessToken, .sessionToken:
                    ["bearer", "access", "access_token", "dpop", "jwt"].contains(word.lowercased())
                }
            guard isAllowed else { throw JWTRefusal(.wrongUse) }
        }
        guard use != .idToken else { return }
        for mark in ["nonce", "at_hash", "c_hash", "s_hash"] where json.member(mark) != nil {
            throw JWTRefusal(.wrongUse)
        }
    }

    private static func times(
        _ json: JSON, _ rules: JWTRules, _ now: Instant
    ) throws(JWTRefusal) -> (Instant, Instant?, Instant?) {
        guard let expiry = try time(json.member("exp")) else { throw JWTRefusal(.expiryMissing) }
        guard now < expiry + rules.leeway else { throw JWTRefusal(.expired) }
        let (begin, issue) = (try time(json.member("nbf")), try time(json.member("iat")))
        if let begin, now + rules.leeway < begin { throw JWTRefusal(.notYetValid) }
        if let issue, now + rules.leeway < issue { throw JWTRefusal(.issuedInFuture) }
        if issue == nil, rules.use == .idToken { throw JWTRefusal(.issueTimeMissing) }
        let start = issue ?? begin ?? now
        guard expiry > start, expiry - start <= rules.lifetimeMax else { throw JWTRefusal(.lifetimeRefused) }
        return (expiry, begin, issue)
    }

    /// A NumericDate (RFC 7519, 2) from 1970 to the end of the year 9999, to the microsecond.
    private static func time(_ member: JSON?) throws(JWTRefusal) -> Instant? {
        let last: Int64 = 253_402_300_799
        switch member {
        case nil: return nil
        case .integer(let seconds)? where (0...last).contains(seconds): return Instant(seconds: seconds)
        case .number(let seconds)? where seconds >= 0 && seconds <= Double(last):
            return Instant(microseconds: Int64((seconds * 1_000_000).rounded(.down)))
        default: throw JWTRefusal(.badTime)
        }
    }

    /// A name of 1 to 255 bytes (OpenID Connect Core, 2) without control characters.
    private static func name(_ member: JSON?, _ code: JWTRefusal.Code) throws(JWTRefusal) -> String {
        guard case .string(let text)? = member, (1...255).contains(text.utf8.count),
            text.utf8.allSatisfy({ $0 >= 0x20 && $0 != 0x7F })
        else { throw JWTRefusal(code) }
        return text
    }
}

extension JSON {
    /// The member of that name, byte for byte.
    func member(_ name: String) -> JSON? {
        guard case .object(let members) = self else { return nil }
        return members.first { isSame($0.name, name) }?.value
    }
}
