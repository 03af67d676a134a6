package import Domain
package import Postgres

/// A row of `approvals`: a submission that waits for a second person. Its MAC is judged before it is
/// believed.
package struct ApprovalRow: Sendable {
    /// Which one, and the level that holds all it reaches.
    package let id: ApprovalID
    package let place: LevelColumns
    /// What was asked: the exact body, the job that is to be retried, the caller's key for asking again.
    package let kind: ApprovalKind
    package let body: [UInt8]
    package let subject: JobID?
    package let idempotencyKey: String?
    /// How many devices it reached then.
    package let devices: Int
    /// Who asked, a key or a person, and who made the key, up to the first.
    package let askedBy: PrincipalID
    package let isByKey: Bool
    package let makers: [PrincipalID]
    package let createdAt: Instant
    /// After this nobody approves it any more.
    package let expiresAt: Instant
    /// What became of it; none of this is under the MAC.
    package var state = ApprovalState.awaitingApproval
    package var decidedBy: PrincipalID?
    package var decidedAt: Instant?
    package var job: JobID?
    package var refusal: String?
    /// The MAC.
    package var mac = RowMAC(keyID: "", code: [])

    /// A submission that waits, without its MAC.
    package init(
        id: ApprovalID, place: LevelColumns, kind: ApprovalKind, body: [UInt8], subject: JobID?,
        idempotencyKey: String?, devices: Int, askedBy: PrincipalID, isByKey: Bool, makers: [PrincipalID],
        createdAt: Instant, expiresAt: Instant
    ) {
        self.id = id
        self.place = place
        self.kind = kind
        self.body = body
        self.subject = subject
        self.idempotencyKey = idempotencyKey
        self.devices = devices
        self.askedBy = askedBy
        self.isByKey = isByKey
        self.makers = makers
        self.createdAt = createdAt
        self.expiresAt = expiresAt
    }

    /// What the row's MAC covers under a key. The makers stand last, since their number varies.
    package func sealedParts(keyID: String) -> [[UInt8]] {
        [Array("approvals".utf8), id.bytes, Array(keyID.utf8)] + place.parts
            + [
                [UInt8(kind.rawValue)], body, subject?.bytes ?? [], Array((idempotencyKey ?? "").utf8),
                Array(String(devices).utf8), askedBy.bytes, [isByKey ? 1 : 2], createdAt.sealedPart,
                expiresAt.sealedPart,
            ] + makers.map(\.bytes)
    }
}

extension ApprovalKind: SmallintCoded {}
extension ApprovalState: SmallintCoded {}

extension Ledger {
    /// Keeps a submission that waits; `false` if who asks has used this idempotency key for another.
    package func insert(_ row: ApprovalRow, scope: Scope) async throws -> Bool {
        try await pool.execute(
            """
            INSERT INTO approvals (id, partner_id, organization_id, site_id, kind, body, subject_id,
                                   idempotency_key, devices, asked_by, asker_kind, makers, expires_at,
                                   mac_key, mac, created_at)
            VALUES (\(row.id), \(row.place.partner), \(row.place.organization), \(row.place.site),
                    \(row.kind), \(PostgresData(row.body)), \(row.subject), \(row.idempotencyKey),
                    \(Int32(clamping: row.devices)), \(row.askedBy), \(Int16(row.isByKey ? 1 : 2)),
                    \(row.makers), \(row.expiresAt), \(row.mac.keyID), \(PostgresData(row.mac.code)),
                    \(row.createdAt))
            ON CONFLICT (asked_by, idempotency_key) WHERE idempotency_key IS NOT NULL DO NOTHING
            """, scope: scope) > 0
    }

    /// What somebody has asked under an idempotency key, whoever looks.
    package func approval(askedBy asker: PrincipalID, key: String) async throws -> ApprovalRow? {
        try await pool.query(
            """
            SELECT \(fragment: Self.approvalColumns) FROM approvals
            WHERE asked_by = \(asker) AND idempotency_key = \(key)
            """, scope: .platform, decode: Self.approval
        ).first
    }

    /// One submission that waits or waited, if the scope sees its level.
    package func approval(_ id: ApprovalID, scope: Scope) async throws -> ApprovalRow? {
        try await pool.query(
            "SELECT \(fragment: Self.approvalColumns) FROM approvals WHERE id = \(id)", scope: scope,
            decode: Self.approval
        ).first
    }

    /// Those that the scope sees, newest first, optionally of one state.
    package func approvals(
        state: ApprovalState?, before: ApprovalID?, limit: Int, scope: Scope
    ) async throws -> [ApprovalRow] {
        try await pool.query(
            """
            SELECT \(fragment: Self.approvalColumns) FROM approvals
            WHERE id < \(before ?? ApprovalID(UniqueID(high: .max, low: .max)))
              AND (\(state)::smallint IS NULL OR state = \(state))
            ORDER BY id DESC LIMIT \(limit)
            """, scope: scope, decode: Self.approval)
    }

    /// Decides on one that waits; of several who decide at once one does.
    package func decide(
        _ id: ApprovalID, _ state: ApprovalState, by principal: PrincipalID, at time: Instant, scope: Scope
    ) async throws -> Bool {
        try await pool.execute(
            """
            UPDATE approvals SET state = \(state), decided_by = \(principal), decided_at = \(time)
            WHERE id = \(id) AND state = 0
            """, scope: scope) > 0
    }

    /// Says what came of one that was approved.
    package func note(
        _ id: ApprovalID, _ state: ApprovalState, job: JobID?, refusal: String?, scope: Scope
    ) async throws {
        try await pool.execute(
            """
            UPDATE approvals SET state = \(state), job_id = \(job), refusal = \(refusal)
            WHERE id = \(id) AND state = 1 AND job_id IS NULL
            """, scope: scope)
    }

    private static let approvalColumns: SQL = """
        id, partner_id, organization_id, site_id, kind, body, subject_id, idempotency_key, devices, asked_by,
        asker_kind, makers, expires_at, created_at, state, decided_by, decided_at, job_id, refusal, mac_key,
        mac
        """

    @Sendable private static func approval(_ row: PostgresRow) throws -> ApprovalRow {
        let (
            id, partner, organization, site, kind, body, subject, key, devices, askedBy, askerKind, makers,
            expiresAt, createdAt, state, decidedBy, decidedAt, job, refusal, macKey, mac
        ) = try row.decode(
            (
                ApprovalID, PartnerID?, OrganizationID?, SiteID?, ApprovalKind, PostgresData, JobID?, String?,
                Int32, PrincipalID, Int16, [PrincipalID], Instant, Instant, ApprovalState, PrincipalID?,
                Instant?, JobID?, String?, String, PostgresData
            ).self)
        var found = ApprovalRow(
            id: id, place: LevelColumns(partner, organization, site), kind: kind, body: body.bytes,
            subject: subject, idempotencyKey: key, devices: Int(devices), askedBy: askedBy,
            isByKey: askerKind == 1, makers: makers, createdAt: createdAt, expiresAt: expiresAt)
        (found.state, found.decidedBy, found.decidedAt) = (state, decidedBy, decidedAt)
        (found.job, found.refusal) = (job, refusal)
        found.mac = RowMAC(keyID: macKey, code: mac.bytes)
        return found
    }
}
