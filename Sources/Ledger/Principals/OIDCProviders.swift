package import Domain
package import Postgres

/// A row of `oidc_providers`, an issuer whose tokens are believed: its MAC is judged before anything in it
/// is.
package struct OIDCProviderRow: Sendable {
    /// What an edit may change.
    package struct Terms: Sendable, Equatable {
        /// Shown to people.
        package var name: String
        /// For whom its tokens must be, and to whom issued; none of the one or the other is not asked for.
        package var audiences: [String]
        package var authorizedParties: [String]
        /// Where in the claims they stand.
        package var organizationClaim: String
        package var roleClaim: String
        package var emailClaim: String
        /// Whether a person is also known by an address that the issuer has verified.
        package var linksByEmail: Bool
        /// What its tokens must be for, how far clocks may differ, and how long a token may hold.
        package var use: OIDCTokenUse
        package var leewaySeconds: Int
        package var lifetimeSeconds: Int
        /// As what this installation is registered there, for people who sign in at the issuer; where they
        /// are sent back to; and the secret, sealed.
        package var clientID: String?
        package var redirectURLs: [String]
        package var sealed: [UInt8]?
        /// Whether its tokens open nothing.
        package var isDisabled: Bool

        /// Terms.
        package init(
            name: String, audiences: [String], authorizedParties: [String], organizationClaim: String,
            roleClaim: String, emailClaim: String, linksByEmail: Bool, use: OIDCTokenUse, leewaySeconds: Int,
            lifetimeSeconds: Int, clientID: String?, redirectURLs: [String], sealed: [UInt8]?,
            isDisabled: Bool
        ) {
            self.name = name
            self.audiences = audiences
            self.authorizedParties = authorizedParties
            self.organizationClaim = organizationClaim
            self.roleClaim = roleClaim
            self.emailClaim = emailClaim
            self.linksByEmail = linksByEmail
            self.use = use
            self.leewaySeconds = leewaySeconds
            self.lifetimeSeconds = lifetimeSeconds
            self.clientID = clientID
            self.redirectURLs = redirectURLs
            self.sealed = sealed
            self.isDisabled = isDisabled
        }
    }

    /// Which provider it is.
    package var id: OIDCProviderID
    /// Whose it is: nothing outside is opened by its tokens.
    package var home: LevelColumns
    /// The issuer, byte for byte as its tokens name it.
    package var issuer: String
    package var preset: OIDCPreset
    package var keySource: OIDCKeySource
    package var terms: Terms
    /// Until when the row grants anything; it is renewed in use.
    package var expiresAt: Instant
    /// How often it was edited.
    package var version: Int
    /// How many links were ever made or edited.
    package var linksMade: Int
    package var createdBy: PrincipalID?
    package var createdAt: Instant
    package var updatedAt: Instant
    /// The MAC.
    package var mac: RowMAC

    /// A new provider's row, without its MAC.
    package init(
        id: OIDCProviderID, home: LevelColumns, issuer: String, preset: OIDCPreset, keySource: OIDCKeySource,
        terms: Terms, expiresAt: Instant, createdBy: PrincipalID?, createdAt: Instant
    ) {
        self.id = id
        self.home = home
        self.issuer = issuer
        self.preset = preset
        self.keySource = keySource
        self.terms = terms
        self.expiresAt = expiresAt
        self.createdBy = createdBy
        self.createdAt = createdAt
        version = 1
        linksMade = 0
        updatedAt = createdAt
        mac = RowMAC(keyID: "", code: [])
    }

    /// What the row's MAC covers under a key. The lists stand last, since their lengths vary; the numbers of
    /// audiences and parties tell where they part.
    package func sealedParts(keyID: String) -> [[UInt8]] {
        let words = [
            String(version), terms.name, issuer, preset.rawValue, keySource.rawValue, terms.organizationClaim,
            terms.roleClaim, terms.emailClaim, terms.use.rawValue, String(terms.leewaySeconds),
            String(terms.lifetimeSeconds), String(terms.audiences.count),
            String(terms.authorizedParties.count),
        ]
        return [Array("oidc_providers".utf8), id.bytes, Array(keyID.utf8)] + home.parts
            + words.map { Array($0.utf8) }
            + [
                [terms.linksByEmail ? 1 : 0], [terms.isDisabled ? 1 : 0], Array((terms.clientID ?? "").utf8),
                terms.sealed ?? [], expiresAt.sealedPart,
                createdBy?.bytes ?? [],
            ] + (terms.audiences + terms.authorizedParties + terms.redirectURLs).map { Array($0.utf8) }
    }
}

extension Ledger {
    /// Keeps a new provider; `false` if its home has one of this name.
    package func insert(_ provider: OIDCProviderRow, scope: Scope) async throws -> Bool {
        let terms = provider.terms
        return try await pool.execute(
            """
            INSERT INTO oidc_providers (id, partner_id, organization_id, name, issuer, preset, key_source,
                                        audiences, authorized_parties, organization_claim, role_claim,
                                        email_claim, links_by_email, token_use, leeway_seconds,
                                        lifetime_seconds, client_id, redirect_urls, sealed, disabled,
                                        expires_at, mac_key, mac, created_by, created_at, updated_at)
            VALUES (\(provider.id), \(provider.home.partner), \(provider.home.organization), \(terms.name),
                    \(provider.issuer), \(provider.preset.rawValue), \(provider.keySource.rawValue),
                    \(terms.audiences), \(terms.authorizedParties), \(terms.organizationClaim),
                    \(terms.roleClaim), \(terms.emailClaim), \(terms.linksByEmail), \(terms.use.rawValue),
                    \(terms.leewaySeconds), \(terms.lifetimeSeconds), \(terms.clientID),
                    \(terms.redirectURLs), \(terms.sealed.map(PostgresData.init)), \(terms.isDisabled),
                    \(provider.expiresAt), \(provider.mac.keyID), \(PostgresData(provider.mac.code)),
                    \(provider.createdBy), \(provider.createdAt), \(provider.createdAt))
            ON CONFLICT (partner_id, organization_id, name) DO NOTHING
            """, scope: scope) > 0
    }

    /// Writes what an edit changed, if the row is still of the version before; `false` if not.
    /// - Throws: `conflict` if the home has another of this name.
    package func update(_ provider: OIDCProviderRow, scope: Scope) async throws -> Bool {
        let terms = provider.terms
        do {
            return try await pool.execute(
                """
                UPDATE oidc_providers
                SET name = \(terms.name), audiences = \(terms.audiences),
                    authorized_parties = \(terms.authorizedParties),
                    organization_claim = \(terms.organizationClaim), role_claim = \(terms.roleClaim),
                    email_claim = \(terms.emailClaim), links_by_email = \(terms.linksByEmail),
                    token_use = \(terms.use.rawValue), leeway_seconds = \(terms.leewaySeconds),
                    lifetime_seconds = \(terms.lifetimeSeconds), client_id = \(terms.clientID),
                    redirect_urls = \(terms.redirectURLs), sealed = \(terms.sealed.map(PostgresData.init)),
                    disabled = \(terms.isDisabled),
                    expires_at = \(provider.expiresAt), version = \(provider.version),
                    links_made = links_made + 1, updated_at = now(), mac_key = \(provider.mac.keyID),
                    mac = \(PostgresData(provider.mac.code))
                WHERE id = \(provider.id) AND version = \(provider.version) - 1
                  AND links_made = \(provider.linksMade)
                """, scope: scope) > 0
        } catch let error as PostgresError where error.sqlState == "23505" {
            throw LedgerError(.conflict, "there is a provider of this name already")
        }
    }

    /// Writes a provider's renewal.
    package func renew(_ provider: OIDCProviderRow) async throws {
        try await pool.execute(
            """
            UPDATE oidc_providers
            SET expires_at = \(provider.expiresAt), mac_key = \(provider.mac.keyID),
                mac = \(PostgresData(provider.mac.code))
            WHERE id = \(provider.id) AND version = \(provider.version) AND expires_at < \(provider.expiresAt)
              AND links_made = \(provider.linksMade)
            """, scope: .platform)
    }

    /// Takes a provider away that has no links; `false` if there is none that the scope sees.
    /// - Throws: `conflict` while it has links.
    package func deleteOIDCProvider(_ id: OIDCProviderID, version: Int?, scope: Scope) async throws -> Bool {
        do {
            return try await pool.execute(
                "DELETE FROM oidc_providers WHERE id = \(id) AND version = coalesce(\(version), version)",
                scope: scope) > 0
        } catch let error as PostgresError where error.sqlState == "23503" {
            throw LedgerError(.conflict, "the provider has links: take them away first")
        }
    }

    /// A provider, if the scope sees its home.
    package func oidcProvider(_ id: OIDCProviderID, scope: Scope) async throws -> OIDCProviderRow? {
        try await pool.query(
            "SELECT \(fragment: Self.providerColumns) FROM oidc_providers o WHERE id = \(id)", scope: scope,
            decode: Self.provider
        ).first
    }

    /// The providers that the scope sees, by id.
    package func oidcProviders(_ page: PageRequest, scope: Scope) async throws -> [OIDCProviderRow] {
        try await pool.query(
            """
            SELECT \(fragment: Self.providerColumns) FROM oidc_providers o
            WHERE id > \(page.afterID) ORDER BY id LIMIT \(page.limit)
            """, scope: scope, decode: Self.provider)
    }

    /// The providers of an issuer for these recipients of a token, at whatever home, the oldest first; at
    /// most `limit`.
    package func oidcProviders(
        issuer: String, audiences: [String], authorizedParty: String?, limit: Int
    ) async throws -> [OIDCProviderRow] {
        try await pool.query(
            """
            SELECT \(fragment: Self.providerColumns) FROM oidc_providers o
            WHERE issuer = \(issuer) AND NOT disabled
              AND CASE WHEN cardinality(audiences) > 0 THEN audiences && \(audiences)
                       ELSE \(authorizedParty) = ANY (authorized_parties) END
            ORDER BY id LIMIT \(limit)
            """, scope: .platform, decode: Self.provider)
    }

    static let providerColumns: SQL = """
        o.id, o.partner_id, o.organization_id, o.name, o.issuer, o.preset, o.key_source, o.audiences,
        o.authorized_parties, o.organization_claim, o.role_claim, o.email_claim, o.links_by_email,
        o.token_use, o.leeway_seconds, o.lifetime_seconds, o.client_id, o.redirect_urls, o.sealed,
        o.disabled, o.expires_at, o.version, o.links_made, o.created_by,
        o.created_at, o.updated_at, o.mac_key, o.mac
        """

    @Sendable static func provider(_ row: PostgresRow) throws -> OIDCProviderRow {
        let (
            id, partner, organization, name, issuer, preset, keySource, audiences, parties, organizationClaim,
            roleClaim, emailClaim, linksByEmail, use, leeway, lifetime, clientID, redirectURLs, sealed,
            isDisabled, expiresAt, version,
            linksMade, createdBy, createdAt, updatedAt, macKey, mac
        ) = try row.decode(
            (
                OIDCProviderID, PartnerID?, OrganizationID?, String, String, OIDCPreset, OIDCKeySource,
                [String], [String], String, String, String, Bool, OIDCTokenUse, Int, Int, String?,
                [String], PostgresData?, Bool, Instant, Int,
                Int, PrincipalID?, Instant, Instant, String, PostgresData
            ).self)
        var provider = OIDCProviderRow(
            id: id, home: LevelColumns(partner, organization, nil), issuer: issuer, preset: preset,
            keySource: keySource,
            terms: OIDCProviderRow.Terms(
                name: name, audiences: audiences, authorizedParties: parties,
                organizationClaim: organizationClaim, roleClaim: roleClaim, emailClaim: emailClaim,
                linksByEmail: linksByEmail, use: use, leewaySeconds: leeway, lifetimeSeconds: lifetime,
                clientID: clientID, redirectURLs: redirectURLs, sealed: sealed?.bytes,
                isDisabled: isDisabled),
            expiresAt: expiresAt, createdBy: createdBy, createdAt: createdAt)
        (provider.version, provider.linksMade, provider.updatedAt) = (version, linksMade, updatedAt)
        provider.mac = RowMAC(keyID: macKey, code: mac.bytes)
        return provider
    }
}

extension OIDCPreset: TextCoded {}
extension OIDCKeySource: TextCoded {}
extension OIDCTokenUse: TextCoded {}
extension OIDCLinkKind: TextCoded {}
