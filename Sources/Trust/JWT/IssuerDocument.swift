import Wire

/// What an issuer's discovery document says (OpenID Connect Discovery, 3).
package struct IssuerDocument: Sendable, Equatable {
    /// The most bytes of an address.
    static let addressBytesMax = 1_024

    /// Who it says that it is, and where its keys are.
    package let issuer: String
    package let keysURL: String
    /// Where people sign in, and where a code is exchanged; `nil` where it says no such address.
    package let authorizationURL: String?
    package let tokenURL: String?
    /// Whether it names itself where it sends people back (RFC 9207).
    package let namesItselfInResponses: Bool

    /// Reads a document; throws `malformed` for what is none.
    package init(document: [UInt8]) throws(TrustError) {
        let json: JSON
        do { json = try JSON.parse(document, depthMax: 8, valuesMax: 2_000) } catch {
            throw TrustError(.malformed, "a discovery document is no JSON: \(error)")
        }
        func address(_ name: String) -> String? {
            guard case .string(let text)? = json.member(name),
                (1...Self.addressBytesMax).contains(text.utf8.count)
            else { return nil }
            return text
        }
        guard case .string(let issuer)? = json.member("issuer"), let keysURL = address("jwks_uri") else {
            throw TrustError(.malformed, "a discovery document names an issuer and a jwks_uri")
        }
        self.issuer = issuer
        self.keysURL = keysURL
        authorizationURL = address("authorization_endpoint")
        tokenURL = address("token_endpoint")
        namesItselfInResponses = json.member("authorization_response_iss_parameter_supported") == .bool(true)
    }
}
