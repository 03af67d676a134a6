/// What is asked of the claims of a token.
package struct JWTRules: Sendable {
    /// What a token is for.
    package enum Use: String, Sendable, CaseIterable {
        /// An access token that says so (RFC 9068: `typ` is `at+jwt`).
        case accessToken
        /// An access or session token that says nothing of its kind, and has no mark of an ID or refresh
        /// token.
        case sessionToken
        /// An ID token (OpenID Connect Core, 2).
        case idToken
    }

    /// The only issuer, byte for byte.
    package let issuer: String
    /// The token must be for one of these; none means that the token may name nobody at all.
    package let audiences: Set<String>
    /// The token must have been issued to one of these; none means that nobody asks.
    package let authorizedParties: Set<String>
    /// What the token must be for.
    package let use: Use
    /// How far clocks may differ.
    package let leeway: Duration
    /// How long a token may hold from its issue on.
    package let lifetimeMax: Duration

    /// The most that clocks may differ.
    package static let leewaySeconds = 0...300
    /// How long a token may hold.
    package static let lifetimeSeconds = 60...86_400

    /// Rules; throws `limit` for a leeway or a lifetime out of range, and where neither audience nor
    /// authorized party is asked for: such rules would believe what was issued to anybody.
    package init(
        issuer: String, audiences: Set<String>, authorizedParties: Set<String> = [], use: Use,
        leewaySeconds: Int = 30, lifetimeSecondsMax: Int = 3_600
    ) throws(TrustError) {
        guard Self.leewaySeconds.contains(leewaySeconds), Self.lifetimeSeconds.contains(lifetimeSecondsMax),
            !audiences.isEmpty || !authorizedParties.isEmpty
        else {
            throw TrustError(
                .limit,
                "rules name an audience or an authorized party, and have a leeway and lifetime in range")
        }
        self.issuer = issuer
        self.audiences = audiences
        self.authorizedParties = authorizedParties
        self.use = use
        leeway = .seconds(Int64(leewaySeconds))
        lifetimeMax = .seconds(Int64(lifetimeSecondsMax))
    }
}

/// Whether two texts are the same bytes: `==` calls canonically equivalent texts equal.
func isSame(_ left: String, _ right: String) -> Bool { left.utf8.elementsEqual(right.utf8) }
