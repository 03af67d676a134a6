package import Domain
import Trust

/// An issuer's key that signs tokens, by Ed25519.
package struct TokenSigner: Sendable {
    /// The key's name in the issuer's set.
    package let keyID: String
    private let key = SigningKey()

    /// A new key of that name.
    package init(_ keyID: String) { self.keyID = keyID }

    /// The public half as a member of a set of keys.
    package var jwk: String {
        #"{"kty":"OKP","crv":"Ed25519","kid":"\#(keyID)","use":"sig","alg":"EdDSA","x":"\#(x)"}"#
    }

    /// The private half, as nobody should publish it.
    package var privateJWK: String {
        #"{"kty":"OKP","crv":"Ed25519","kid":"\#(keyID)","x":"\#(x)","d":"\#(Base64URL.encode(key.seed))"}"#
    }

    private var x: String { Base64URL.encode(key.publicKey.bytes) }

    /// A token with these claims, each a text of JSON.
    package func token(_ claims: [String: String], type: String = "JWT") -> String {
        let members = claims.sorted { $0.key < $1.key }.map { "\"\($0.key)\":\($0.value)" }
        let header = #"{"alg":"EdDSA","kid":"\#(keyID)","typ":"\#(type)"}"#
        let text =
            Base64URL.encode(Array(header.utf8)) + "."
            + Base64URL.encode(Array("{\(members.joined(separator: ","))}".utf8))
        return text + "." + Base64URL.encode(key.sign(Array(text.utf8)))
    }
}

/// The claims of a session token as Clerk issues it.
package func sessionClaims(
    issuer: String, subject: String = "user_1", party: String = "https://app.example", at now: Instant,
    seconds: Int64 = 60, _ more: [String: String] = [:]
) -> [String: String] {
    let own = [
        "iss": "\"\(issuer)\"", "sub": "\"\(subject)\"", "azp": "\"\(party)\"", "iat": "\(now.seconds)",
        "nbf": "\(now.seconds - 10)", "exp": "\(now.seconds + seconds)", "sid": "\"sess_1\"",
    ]
    return own.merging(more) { $1 }
}
