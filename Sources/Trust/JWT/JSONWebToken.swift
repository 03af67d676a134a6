package import Domain
import Wire

/// The judgment of a signed token of another issuer (RFC 7515, 7519; RFC 8725).
package enum JSONWebToken {
    /// The most bytes of a token.
    package static let bytesMax = 16 << 10

    /// What a token says of whose it is, before anything of it may be believed.
    package struct Hint: Sendable, Equatable {
        /// Whose keys to look for, and which of them.
        package let issuer: String
        package let keyID: String
        /// For whom it says it is, and to whom it was issued.
        package let audiences: [String]
        package let authorizedParty: String?
    }

    /// Header members that would change what is verified, or bring a key along.
    private static let forbidden = ["crit", "b64", "zip", "enc", "jwk", "jku", "x5u", "x5c"]

    private struct Parts {
        let header: JSON
        let keyID: String
        let message: [UInt8]
        let claims: [UInt8]
        let signature: [UInt8]
    }

    /// Whose keys to fetch: nothing of it may be believed.
    package static func unverifiedHint(of token: String) throws(JWTRefusal) -> Hint {
        let parts = try parts(of: token)
        let claims = try object(parts.claims)
        guard case .string(let issuer)? = claims.member("iss"), (1...512).contains(issuer.utf8.count) else {
            throw JWTRefusal(.wrongIssuer)
        }
        var party: String?
        if case .string(let text)? = claims.member("azp") { party = text }
        return Hint(
            issuer: issuer, keyID: parts.keyID, audiences: try JWTClaims.audiences(claims),
            authorizedParty: party)
    }

    /// The claims of a token that holds: form, key, signature and claims are judged in this order.
    package static func verify(
        _ token: String, keys: JSONWebKeySet, rules: JWTRules, at now: Instant
    ) throws(JWTRefusal) -> JWTClaims {
        let parts = try parts(of: token)
        try checkType(parts.header, rules.use)
        guard isSame(keys.issuer, rules.issuer) else { throw JWTRefusal(.keysOfAnotherIssuer) }
        let key = try keys.key(parts.keyID)
        guard parts.header.member("alg") == .string(key.algorithm.rawValue) else {
            throw JWTRefusal(.otherAlgorithm)
        }
        guard key.isValid(parts.signature, for: parts.message) else { throw JWTRefusal(.badSignature) }
        return try JWTClaims(object(parts.claims), rules: rules, at: now)
    }

    private static func parts(of token: String) throws(JWTRefusal) -> Parts {
        guard token.utf8.count <= bytesMax else { throw JWTRefusal(.tokenTooLong) }
        let texts = token.utf8.split(separator: UInt8(ascii: "."), omittingEmptySubsequences: false)
        guard texts.count == 3, texts.allSatisfy({ !$0.isEmpty }) else { throw JWTRefusal(.notThreeParts) }
        var decoded: [[UInt8]] = []
        for text in texts {
            guard let bytes = Base64URL.decode(String(decoding: text, as: UTF8.self)) else {
                throw JWTRefusal(.notBase64URL)
            }
            decoded.append(bytes)
        }
        let header = try object(decoded[0])
        guard !forbidden.contains(where: { header.member($0) != nil }) else {
            throw JWTRefusal(.forbiddenHeader)
        }
        guard case .string(let name)? = header.member("alg"), JSONWebKey.Algorithm(rawValue: name) != nil
        else {
            throw JWTRefusal(.algorithmRefused)
        }
        guard let member = header.member("kid") else { throw JWTRefusal(.keyIDMissing) }
        guard case .string(let keyID) = member, JSONWebKey.isName(keyID) else {
            throw JWTRefusal(.keyIDRefused)
        }
        let message = Array(token.utf8.prefix(texts[0].count + 1 + texts[1].count))
        return Parts(
            header: header, keyID: keyID, message: message, claims: decoded[1], signature: decoded[2])
    }

    private static func object(_ bytes: [UInt8]) throws(JWTRefusal) -> JSON {
        do {
            let json = try JSON.parse(bytes, depthMax: 16, valuesMax: 2_000)
            if case .object = json { return json }
        } catch {
            throw JWTRefusal(.notJSON)
        }
        throw JWTRefusal(.notJSON)
    }

    /// RFC 7515, 4.1.9: `typ` is compared without regard to case, `application/` may be left out.
    private static func checkType(_ header: JSON, _ use: JWTRules.Use) throws(JWTRefusal) {
        var type: String?
        if let member = header.member("typ") {
            guard case .string(let text) = member else { throw JWTRefusal(.wrongType) }
            let word = text.lowercased()
            type = word.hasPrefix("application/") ? String(word.dropFirst(12)) : word
        }
        let isRight =
            switch use {
            case .accessToken: type == "at+jwt"
            case .sessionToken, .idToken: type == nil || type == "jwt"
            }
        guard isRight else { throw JWTRefusal(.wrongType) }
    }
}
