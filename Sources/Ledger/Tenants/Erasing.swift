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
    /// How many rows it had when that was asked, by table, at most a million of each.
    package fileprivate(set) var counted: [String: Int] = [:]
    /// How many are gone.
    package fileprivate(set) var removed = 0
    /// Whether its log was taken out although it did not hold.
    package fileprivate(set) var isWithoutLog = false
    /// The MAC of who asked for what.
    package var mac = RowMAC(keyID: "", code: [])

    /// A row of a partner or an organization that is still to be sealed.
    package init(_ target: Level, name: String, askedBy: PrincipalID, askedAt: Instant) {
        let (of, id) = Ledger.erased(target)
        self.init(
            id: id.value, isPartner: of.isPartner, name: name, askedBy: askedBy, askedAt: askedAt)
    }

    fileprivate init(id: UniqueID, isPartner: Bool, name: String, askedBy: PrincipalID?, askedAt: Instant) {
        self.id = id
        self.isPartner = isPartner
        self.name = name
        self.askedBy = askedBy
        self.askedAt = askedAt
    }

    /// What the row's MAC covers under a key.
    package func sealedParts(keyID: String) -> [[UInt8]] {
        [
            Array("erasures".utf8), id.bytes, Array(keyID.utf8), [isPartner ? 1 : 2], Array(name.utf8),
            askedBy?.bytes ?? [], askedAt.sealedPart,
        ]
    }
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

    /// How many rows a partner or an organization has, by table, at most a million of each; none if the scope
    /// does not see it.
    package func erasureCounts(_ level: Level, scope: Scope) async throws -> [String: Int] {
        let (of, id) = Self.erased(level)
        let rows = try await pool.query(
            "SELECT key, value::bigint FROM jsonb_each_text(crmm_erasure_counts(\(id), \(of.kind)))",
            scope: scope, timeout: Self.countTimeout
        ) { try $0.decode((String, Int).self) }
        return Dictionary(uniqueKeysWithValues: rows)
    }

    /// Has an archived partner or organization erased, which nobody takes back; `false` if it is of another
    /// version, is not archived, or is called otherwise.
    package func erase(_ row: ErasureRow, version: Int, scope: Scope) async throws -> Bool {
        let of = Erased(isPartner: row.isPartner)
        return try await pool.execute(
            """
            WITH marked AS (
                UPDATE \(fragment: of.table) SET state = 2
                WHERE id = \(ID<Subject.Tenant>(row.id)) AND state = 1 AND version = \(version)
                  AND name = \(row.name)
                RETURNING id, \(fragment: of.partner) AS partner_id, name
            )
            INSERT INTO erasures (id, kind, partner_id, name, asked_by, asked_at, mac_key, mac, counted)
            SELECT m.id, \(of.kind), m.partner_id, m.name, \(row.askedBy), \(row.askedAt),
                   \(row.mac.keyID), \(PostgresData(row.mac.code)), crmm_erasure_counts(m.id, \(of.kind))
            FROM marked m
            ON CONFLICT (id) DO UPDATE
            SET name = excluded.name, asked_by = excluded.asked_by, asked_at = excluded.asked_at,
                counted = excluded.counted, removed = 0, mac_key = excluded.mac_key, mac = excluded.mac,
                step = 0, asked_in = excluded.asked_in
            """, scope: scope, timeout: Self.countTimeout) > 0
    }

    /// What is being erased and the scope sees, by id after one.
    package func erasures(after id: UniqueID, limit: Int, scope: Scope) async throws -> [ErasureRow] {
        try await erasures("id > \(ID<Subject.Tenant>(id))", limit: limit, scope: scope)
    }

    /// One that is being erased, if the scope sees it.
    package func erasure(_ id: UniqueID, scope: Scope) async throws -> ErasureRow? {
        try await erasures("id = \(ID<Subject.Tenant>(id))", limit: 1, scope: scope).first
    }

    private func erasures(_ rows: SQL, limit: Int, scope: Scope) async throws -> [ErasureRow] {
        try await pool.query(
            """
            SELECT id, kind = 1, name, asked_by, asked_at, mac_key, mac,
                   ARRAY(SELECT key FROM jsonb_each_text(counted) ORDER BY key),
                   ARRAY(SELECT value::bigint FROM jsonb_each_text(counted) ORDER BY key), removed,
                   without_log
            FROM erasures WHERE \(fragment: rows) ORDER BY id LIMIT \(limit)
            """, scope: scope
        ) { row in
            let (
                id, isPartner, name, by, at, key, code, tables, counts, removed, isWithoutLog
            ) = try row.decode(
                (
                    ID<Subject.Tenant>, Bool, String, PrincipalID?, Instant, String, PostgresData, [String],
                    [Int], Int, Bool
                ).self)
            var erasure = ErasureRow(
                id: id.value, isPartner: isPartner, name: name, askedBy: by, askedAt: at)
            erasure.counted = Dictionary(uniqueKeysWithValues: zip(tables, counts))
            (erasure.removed, erasure.isWithoutLog) = (removed, isWithoutLog)
            erasure.mac = RowMAC(keyID: key, code: code.bytes)
            return erasure
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

    fileprivate static func erased(_ level: Level) -> (Erased, ID<Subject.Tenant>) {
        switch level {
        case .partner(let id): (Erased(isPartner: true), ID(id.value))
        case .organization(let id): (Erased(isPartner: false), ID(id.value))
        case .platform, .organizations, .site: preconditionFailure("a partner or an organization is erased")
        }
    }
}

/// Where the rows of partners, or those of organizations, stand.
private struct Erased {
    let isPartner: Bool
    var kind: Int16 { isPartner ? 1 : 2 }
    var table: SQL { isPartner ? "partners" : "organizations" }
    var partner: SQL { isPartner ? "id" : "partner_id" }
    var exported: SQL { isPartner ? "NULL::bigint, NULL::timestamptz" : "exported_version, exported_at" }
}
