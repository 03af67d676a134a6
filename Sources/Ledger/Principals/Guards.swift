package import Domain
package import Postgres

/// A row of `guards`: the thresholds that a partner has set. Its MAC is judged before it is believed.
package struct GuardRow: Sendable {
    /// Whose they are.
    package let partner: PartnerID
    package var rules: GuardRules
    /// Until when the row can loosen anything; it is renewed in use.
    package var expiresAt: Instant
    /// How often it was edited; the first row of a partner has 2, since 1 is what holds without one.
    package var version: Int
    package var updatedBy: PrincipalID?
    package var updatedAt: Instant
    /// The MAC.
    package var mac: RowMAC

    /// A row without its MAC.
    package init(
        partner: PartnerID, rules: GuardRules, expiresAt: Instant, version: Int, updatedBy: PrincipalID?,
        updatedAt: Instant
    ) {
        self.partner = partner
        self.rules = rules
        self.expiresAt = expiresAt
        self.version = version
        self.updatedBy = updatedBy
        self.updatedAt = updatedAt
        mac = RowMAC(keyID: "", code: [])
    }

    /// What the row's MAC covers under a key. The permissions stand last, since their number varies.
    package func sealedParts(keyID: String) -> [[UInt8]] {
        [
            Array("guards".utf8), partner.bytes, Array(keyID.utf8), Array(String(version).utf8),
            expiresAt.sealedPart, Array(String(rules.confirmAbove).utf8),
            rules.approveAbove.map { Array(String($0).utf8) } ?? [],
            Array(String(rules.stepUpSeconds).utf8),
        ] + rules.stepUpPermissions.sorted().map { Array($0.utf8) }
    }
}

extension Ledger {
    /// Writes a partner's thresholds, if the row is still of the version before, or there is still none;
    /// `false` if not.
    package func write(_ row: GuardRow, over version: Int?, scope: Scope) async throws -> Bool {
        let steps = row.rules.stepUpPermissions.sorted()
        return try await pool.execute(
            """
            INSERT INTO guards (partner_id, confirm_above, approve_above, step_up, step_up_seconds,
                                expires_at, version, mac_key, mac, updated_by, updated_at)
            VALUES (\(row.partner), \(Int32(row.rules.confirmAbove)),
                    \(row.rules.approveAbove.map(Int32.init)), \(steps),
                    \(Int32(row.rules.stepUpSeconds)), \(row.expiresAt), \(row.version),
                    \(row.mac.keyID), \(PostgresData(row.mac.code)), \(row.updatedBy), \(row.updatedAt))
            ON CONFLICT (partner_id) DO UPDATE
            SET confirm_above = excluded.confirm_above, approve_above = excluded.approve_above,
                step_up = excluded.step_up, step_up_seconds = excluded.step_up_seconds,
                expires_at = excluded.expires_at, version = excluded.version, mac_key = excluded.mac_key,
                mac = excluded.mac, updated_by = excluded.updated_by, updated_at = excluded.updated_at
            WHERE guards.version = \(version)
            """, scope: scope) > 0
    }

    /// Writes the renewal of a partner's thresholds.
    package func renew(_ row: GuardRow) async throws {
        try await pool.execute(
            """
            UPDATE guards
            SET expires_at = \(row.expiresAt), mac_key = \(row.mac.keyID),
                mac = \(PostgresData(row.mac.code))
            WHERE partner_id = \(row.partner) AND version = \(row.version) AND expires_at < \(row.expiresAt)
            """, scope: .platform)
    }

    /// These partners, each with the row of its thresholds where there is one.
    package func guards(of partners: [PartnerID]) async throws -> [PartnerID: GuardRow?] {
        try await guards("p.id = ANY(\(partners))")
    }

    /// Every partner, with the row of its thresholds where there is one.
    package func guardsOfAll() async throws -> [PartnerID: GuardRow?] { try await guards("true") }

    private func guards(_ condition: SQL) async throws -> [PartnerID: GuardRow?] {
        Dictionary(
            try await pool.query(
                """
                SELECT p.id, g.confirm_above, g.approve_above, g.step_up, g.step_up_seconds, g.expires_at,
                       g.version, g.updated_by, g.updated_at, g.mac_key, g.mac
                FROM partners p LEFT JOIN guards g ON g.partner_id = p.id
                WHERE \(fragment: condition)
                """, scope: .platform, decode: Self.guarded)
        ) { first, _ in first }
    }

    @Sendable private static func guarded(_ row: PostgresRow) throws -> (PartnerID, GuardRow?) {
        let (
            partner, confirmAbove, approveAbove, stepUp, stepUpSeconds, expiresAt, version, updatedBy,
            updatedAt, macKey, mac
        ) = try row.decode(
            (
                PartnerID, Int32?, Int32?, [String]?, Int32?, Instant?, Int?, PrincipalID?, Instant?, String?,
                PostgresData?
            ).self)
        guard let confirmAbove, let stepUp, let stepUpSeconds, let expiresAt, let version, let updatedAt,
            let macKey, let mac
        else { return (partner, nil) }
        var found = GuardRow(
            partner: partner,
            rules: GuardRules(
                confirmAbove: Int(confirmAbove), approveAbove: approveAbove.map(Int.init),
                stepUpPermissions: Set(stepUp), stepUpSeconds: Int(stepUpSeconds)),
            expiresAt: expiresAt, version: version, updatedBy: updatedBy, updatedAt: updatedAt)
        found.mac = RowMAC(keyID: macKey, code: mac.bytes)
        return (partner, found)
    }
}
