/// Whose tokens an issuer's are like: where names stand in them unless the provider says otherwise.
package enum OIDCPreset: String, Sendable, CaseIterable {
    /// Any issuer that follows OpenID Connect.
    case generic
    /// Clerk: session tokens with `azp`, and the organization in `org_id` and `org_role` or in `o`.
    case clerk
}

/// Where an issuer's keys come from.
package enum OIDCKeySource: String, Sendable, CaseIterable {
    /// The issuer's discovery document, and the set of keys that it names.
    case discovery
    /// Clerk's API, with the secret of the operator's application: for a provider of the platform only.
    case clerkAPI
}

/// What a token must be for.
package enum OIDCTokenUse: String, Sendable, CaseIterable {
    /// An access token that says so (RFC 9068).
    case accessToken
    /// An access or session token that says nothing of its kind.
    case sessionToken
    /// An ID token.
    case idToken
}

/// What a link's name is at the issuer.
package enum OIDCLinkKind: String, Sendable, CaseIterable {
    /// The subject of tokens, which stands for a person.
    case subject
    /// An organization, which stands for an organization.
    case organization
    /// A role, which stands for a role in the organization of the token.
    case role
}
