import Domain
import Wire

@testable import Trust

private let issuer = "https://login.example.com"
private let now = Instant(seconds: 1_700_000_000)

private let rules = JWTRules.Use.allCases.compactMap { use in
    accepted { try JWTRules(issuer: issuer, audiences: ["cloudrmm"], authorizedParties: ["web"], use: use) }
}

/// Keys of which the tokens of the corpus name one each.
private let keys = accepted {
    let x = "11qYAYKxCrfVS_7TyWQHOg7hcvPapiMlrwIaaPcHURo"
    let document = #"{"keys":[{"kty":"OKP","crv":"Ed25519","kid":"k1","x":"\#(x)"}]}"#
    return try JSONWebKeySet(document: Array(document.utf8), issuer: issuer)
}

func checkJWT(_ bytes: [UInt8]) {
    checkText(String(decoding: bytes, as: UTF8.self))
    // As claims whose signature held.
    if let json = accepted({ try JSON.parse(bytes, depthMax: 16, valuesMax: 2_000) }) {
        for rules in rules {
            guard let claims = accepted({ try JWTClaims(json, rules: rules, at: now) }) else { continue }
            promise(claims.issuer == issuer, "a token of another issuer is believed")
            promise(claims.expiresAt + rules.leeway > now, "a token is believed beyond its end")
        }
    }
    if let set = accepted({ try JSONWebKeySet(document: bytes, issuer: issuer) }) {
        promise(set.keys.count + set.passedOver.count <= JSONWebKeySet.keysMax, "a set has too many keys")
        for key in set.keys {
            promise(set.names(key.id), "a set does not name its own key")
            promise(!key.isValid([UInt8](repeating: 0, count: 64), for: bytes), "a key signs by zeros")
        }
    }
    _ = accepted { try IssuerDocument(document: bytes) }
    _ = accepted { try TokenAnswer(document: bytes) }
}

private func checkText(_ text: String) {
    guard let hint = accepted({ try JSONWebToken.unverifiedHint(of: text) }) else { return }
    promise((1...512).contains(hint.issuer.utf8.count), "a hint has no issuer")
    guard let keys else { return }
    for rules in rules {
        promise(
            accepted { try JSONWebToken.verify(text, keys: keys, rules: rules, at: now) } == nil,
            "a token is believed that nobody signed")
    }
    if let path = accepted({ try ClaimPath(text) }) {
        promise(path.description == text, "a path has two texts")
    }
}
