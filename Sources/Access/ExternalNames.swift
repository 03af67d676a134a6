import Domain
import Ledger
import Trust

/// What a believed token names at its issuer.
struct ExternalNames: Equatable {
    /// How many roles of a token count, and the bytes of each name.
    static let rolesMax = 32
    static let nameBytes = 1...255
    /// Where Clerk's session tokens of version 2 have what those of version 1 have at the top.
    private static let compactPaths = ["org_id": "o.id", "org_slug": "o.slg"]

    let subject: String
    let organization: String?
    let roles: [String]
    let email: String?
    let isEmailVerified: Bool

    /// Reads the claims as a provider says.
    /// - Throws: `pendingSession` for a session of Clerk that is not signed in yet.
    init(_ claims: JWTClaims, _ provider: OIDCProviderRow) throws {
        subject = claims.subject
        func name(_ path: String) throws -> String? {
            try claims.text(at: ClaimPath(path)).flatMap { Self.nameBytes.contains($0.utf8.count) ? $0 : nil }
        }
        var organization = try name(provider.terms.organizationClaim)
        // More roles than may be are none.
        var roles = try claims.texts(at: ClaimPath(provider.terms.roleClaim))
        if roles.count > Self.rolesMax { roles = [] }
        roles = roles.filter { Self.nameBytes.contains($0.utf8.count) }
        if provider.preset == .clerk {
            // Session tokens of version 2 say `sts`, and have the organization in `o`, its role without
            // "org:".
            if claims.has("sts"), try name("sts") != "active" { throw TokenRefusal.pendingSession }
            if claims.has("o") {
                // Two that differ are none.
                if let path = Self.compactPaths[provider.terms.organizationClaim] {
                    let compact = try name(path)
                    organization = organization == nil || organization == compact ? compact : nil
                }
                if provider.terms.roleClaim == "org_role" {
                    let role = try name("o.rol").map { $0.hasPrefix("org:") ? $0 : "org:\($0)" }
                    let compact = role.map { [$0] } ?? []
                    roles = roles.isEmpty || roles == compact ? compact : []
                }
            }
        }
        self.organization = organization
        self.roles = roles
        email = try name(provider.terms.emailClaim)?.lowercased()
        isEmailVerified = claims.isTrue("email_verified")
    }
}
