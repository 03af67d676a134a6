import Wire

/// What an issuer answers to a code (OpenID Connect Core, 3.1.3.3): of it, only the ID token is of use here.
package struct TokenAnswer: Sendable, Equatable {
    /// The token, not judged yet.
    package let idToken: String

    /// Reads an answer; throws `malformed` for what is none.
    package init(document: [UInt8]) throws(TrustError) {
        let json: JSON
        do { json = try JSON.parse(document, depthMax: 8, valuesMax: 2_000) } catch {
            throw TrustError(.malformed, "an answer to a code is no JSON: \(error)")
        }
        guard case .string(let idToken)? = json.member("id_token") else {
            throw TrustError(.malformed, "an answer to a code has an id_token")
        }
        self.idToken = idToken
    }
}
