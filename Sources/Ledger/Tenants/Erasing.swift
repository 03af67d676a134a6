package import Domain
package import Postgres

/// What is being erased: a partner or an organization.
package struct ErasureRow: Sendable {
    /// Its id, and whether it is a partner.
    package let id: UniqueID
    package let isPartner: Bool
    /// What it was called, who asked for it, and when.
    package let name: String
    package let askedBy: PrincipalID?
    package let askedAt: Instant
    /// How many rows it had when that was asked, by table; and how many are gone.
    package let counted: [String: Int]
    package let removed: Int
}

/// How far a part of the tenancy may be erased.
package struct Erasable: Sendable {
    /// What it is called.
    package let name: String
    package let isArchived: Bool
    /// How often it was edited, and of which version all of it was exported last, and when.
    package let version: Int
    package let exportedVersion: Int?
    package let exportedAt: Instant?
}

extension Ledger {
    /// What a partner or an organization is before it is erased; `nil` if the scope does not see it.
    package func erasable(_ level: Level, scope: Scope) async throws -> Erasable? {
        let (of, id) = Self.erased(level)
        return try await pool.query(
            """
            SELECT name, state = 1, version, \(fragment: of.exported)
            FROM \(fragment: of.table) WHERE id = \(id) AND state < 2
            """, scope: scope
        ) { row in
            let (name, isArchived, version, exportedVersion, exportedAt) = try row.decode(
                (String, Bool, Int, Int?, Instant?).self)
            return Erasable(
                name: name, isArchived: isArchived, version: version, exportedVersion: exportedVersion,
                exportedAt: exportedAt)
        }.first
    }

    /// How many rows a partner or an organization has, by table.
    package func erasureCounts(_ level: Level, scope: Scope) async throws -> [String: Int] {
        let (of, id) = Self.erased(level)
        let rows = try await pool.query(
            "SELECT key, value::bigint FROM jsonb_each_text(crmm_erasure_counts(\(id), \(of.kind)))",
            scope: scope, timeout: Self.countTimeout
        ) { try $0.decode((String, Int).self) }
        return Dictionary(uniqueKeysWithValues: rows)
    }

    /// Asks for an archived partner or organization to be erased, which nobody takes back; `false` if it is
    /// of another version, is not archived, or is called otherwise.
    package func erase(
        _ level: Level, name: String, version: Int, by principal: PrincipalID, scope: Scope
    ) async throws -> Bool {
        let (of, id) = Self.erased(level)
        return try await pool.execute(
            """
            WITH marked AS (
                UPDATE \(fragment: of.table) SET state = 2
                WHERE id = \(id) AND state = 1 AND version = \(version) AND name = \(name)
                RETURNING id, \(fragment: of.partner) AS partner_id, name
            )
            INSERT INTO erasures (id, kind, partner_id, name, asked_by, counted)
            SELECT m.id, \(of.kind), m.partner_id, m.name, \(principal),
                   crmm_erasure_counts(m.id, \(of.kind))
            FROM marked m
            """, scope: scope, timeout: Self.countTimeout) > 0
    }

    /// What is being erased and the scope sees, by id; or one of it.
    package func erasures(_ id: UniqueID? = nil, limit: Int, scope: Scope) async throws -> [ErasureRow] {
        let one: SQL = id.map { "WHERE id = \(ID<Subject.Tenant>($0))" } ?? ""
        return try await pool.query(
            """
            SELECT id, kind = 1, name, asked_by, asked_at,
                   ARRAY(SELECT key FROM jsonb_each_text(counted) ORDER BY key),
                   ARRAY(SELECT value::bigint FROM jsonb_each_text(counted) ORDER BY key), removed
            FROM erasures \(fragment: one) ORDER BY id LIMIT \(limit)
            """, scope: scope
        ) { row in
            let (id, isPartner, name, by, at, tables, counts, removed) = try row.decode(
                (ID<Subject.Tenant>, Bool, String, PrincipalID?, Instant, [String], [Int], Int).self)
            return ErasureRow(
                id: id.value, isPartner: isPartner, name: name, askedBy: by, askedAt: at,
                counted: Dictionary(uniqueKeysWithValues: zip(tables, counts)), removed: removed)
        }
    }

    /// Takes a part of what is being erased away, and commits: returns how many rows; 0 when only the log is
    /// left, `nil` while somebody else is at it.
    package func eraseStep(_ id: UniqueID, limit: Int) async throws -> Int? {
        try await pool.query(
            "SELECT crmm_erase_step(\(ID<Subject.Tenant>(id)), \(Int32(limit)))", scope: .platform,
            timeout: Self.countTimeout
        ) { try $0.decode(Int?.self) }.first ?? nil
    }

    /// Ends an erasure of which nothing but its checkpoint is left; `false` if there is more.
    package func eraseEnd(_ id: UniqueID) async throws -> Bool {
        try await pool.query(
            "SELECT crmm_erase_end(\(ID<Subject.Tenant>(id)))", scope: .platform, timeout: Self.countTimeout
        ) { try $0.decode(Bool.self) }.first ?? false
    }

    /// Deletes a site that is archived, has no device and lets nobody in; `false` if that is not so, or it
    /// is of another version.
    package func deleteSite(_ id: SiteID, version: Int, scope: Scope) async throws -> Bool {
        try await pool.query("SELECT crmm_delete_site(\(id), \(version))", scope: scope) {
            try $0.decode(Bool.self)
        }.first ?? false
    }

    /// Deletes a device that is archived and has no open run; `false` if that is not so, or it is of another
    /// version.
    package func deleteDevice(
        _ id: DeviceID, of organization: OrganizationID, version: Int, scope: Scope
    ) async throws -> Bool {
        try await pool.query("SELECT crmm_delete_device(\(organization), \(id), \(version))", scope: scope) {
            try $0.decode(Bool.self)
        }.first ?? false
    }

    /// Notes that all of an organization was exported, as of a version.
    package func noteExport(of id: OrganizationID, version: Int, scope: Scope) async throws -> Bool {
        try await pool.execute(
            """
            UPDATE organizations SET exported_at = now(), exported_version = version
            WHERE id = \(id) AND version = \(version)
            """, scope: scope) > 0
    }

    // Many rows are counted, or go in one statement.
    private static let countTimeout = Duration.seconds(60)

    private struct Erased {
        let kind: Int16
        let table: SQL
        let partner: SQL
        let exported: SQL
    }

    private static func erased(_ level: Level) -> (Erased, ID<Subject.Tenant>) {
        switch level {
        case .partner(let id):
            (
                Erased(
                    kind: 1, table: "partners", partner: "id", exported: "NULL::bigint, NULL::timestamptz"),
                ID(id.value)
            )
        case .organization(let id):
            (
                Erased(
                    kind: 2, table: "organizations", partner: "partner_id",
                    exported: "exported_version, exported_at"), ID(id.value)
            )
        case .platform, .organizations, .site: preconditionFailure("a partner or an organization is erased")
        }
    }
}
