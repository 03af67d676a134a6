package import Domain
package import Postgres

/// One entry of the audit log.
package struct AuditEntry: Sendable {
    /// Whose log it stands in: an organization's id, a partner's, or zeros for the platform.
    package let chain: UniqueID
    package let id: AuditEntryID
    /// The organization or the partner who sees it; neither: the platform alone.
    package let organization: OrganizationID?
    package let partner: PartnerID?
    package let at: Instant
    /// Who: 0 the platform itself, 1 a key, 2 a person, 3 nobody known, 4 the database's own login.
    package let actorKind: Int
    package let actor: PrincipalID?
    package let address: String?
    package let request: RequestID?
    /// `table.verb` of a change, `METHOD path` of a refused attempt.
    package let action: String
    package let subject: UniqueID?
    package let isRefused: Bool
    /// The row before and after as JSON; of a refusal, its code.
    package let before: String?
    package let after: String?
    /// Its place in the chain, from 1, and the MAC over it and the one before; `nil` until it is sealed.
    package let position: Int?
    package let mac: RowMAC?

    /// What its MAC covers under a key, behind the MAC of the entry before.
    package func sealedParts(position: Int, after previous: [UInt8], keyID: String) -> [[UInt8]] {
        [
            Array("audit_entries".utf8), Array(keyID.utf8), previous, Array(String(position).utf8),
            chain.bytes, id.bytes, organization?.bytes ?? [], partner?.bytes ?? [], at.sealedPart,
            Array(String(actorKind).utf8), actor?.bytes ?? [],
            Array((address ?? "").utf8), request?.bytes ?? [], Array(action.utf8), subject?.bytes ?? [],
            [isRefused ? 1 : 0], [before == nil ? 0 : 1], Array((before ?? "").utf8),
            [after == nil ? 0 : 1], Array((after ?? "").utf8),
        ]
    }
}

/// Where a chain is: how many entries are sealed, and the MAC of the last.
package struct AuditHead: Sendable, Hashable {
    /// Whose log it is.
    package let chain: UniqueID
    package let count: Int
    package let mac: [UInt8]

    /// A head.
    package init(chain: UniqueID, count: Int, mac: [UInt8]) {
        self.chain = chain
        self.count = count
        self.mac = mac
    }
}

/// Which entries a list shows.
package struct AuditFilter: Sendable {
    /// Of one log, one who acted, one row, or one action or those that begin with it.
    package var chain: UniqueID?
    package var actor: PrincipalID?
    package var subject: UniqueID?
    package var action: String?
    /// Of a time.
    package var since: Instant?
    package var until: Instant?
    /// Only refused attempts, or only changes.
    package var isRefused: Bool?

    /// All.
    package init() {}

    fileprivate var conditions: SQL {
        var parts: [SQL] = []
        if let chain { parts.append("AND chain = \(ID<Subject.Tenant>(chain))") }
        if let actor { parts.append("AND actor_id = \(actor)") }
        if let subject { parts.append("AND subject_id = \(ID<Subject.Tenant>(subject))") }
        if let action { parts.append("AND starts_with(action, \(action))") }
        if let since { parts.append("AND at >= \(since)") }
        if let until { parts.append("AND at < \(until)") }
        if let isRefused { parts.append("AND outcome = \(isRefused ? Int16(1) : 0)") }
        return .joined(parts, separator: " ")
    }
}

extension Ledger {
    /// Entries that the scope sees and the filter lets through, newest first, older than one.
    package func auditEntries(
        _ filter: AuditFilter, before: UniqueID?, limit: Int, scope: Scope
    ) async throws -> [AuditEntry] {
        let older: SQL = before.map { "AND id < \(ID<Subject.Tenant>($0))" } ?? ""
        return try await pool.query(
            """
            SELECT \(fragment: Self.auditColumns) FROM audit_entries
            WHERE true \(fragment: older) \(fragment: filter.conditions)
            ORDER BY id DESC LIMIT \(limit)
            """, scope: scope, decode: Self.auditEntry)
    }

    /// The logs with entries that are not sealed, at most `limit`.
    package func unsealedChains(limit: Int) async throws -> [UniqueID] {
        try await pool.query(
            """
            WITH RECURSIVE waiting AS (
                (SELECT chain FROM audit_entries WHERE position IS NULL ORDER BY chain LIMIT 1)
                UNION ALL
                SELECT n.chain FROM waiting w
                CROSS JOIN LATERAL (
                    SELECT e.chain FROM audit_entries e WHERE e.position IS NULL AND e.chain > w.chain
                    ORDER BY e.chain LIMIT 1
                ) n
            )
            SELECT chain FROM waiting LIMIT \(limit)
            """, scope: .platform
        ) { try $0.decode(ID<Subject.Tenant>.self).value }
    }

    /// Seals the next entries of a log, at most `limit`, in the order of their ids: `seal` is told an entry,
    /// its position and the MAC before it. Returns how many, and
    /// the new head; 0 if nothing waits, or somebody else is at it. Throws `conflict` if the log is not as it
    /// was at the head that is known.
    package func sealAudit(
        of chain: UniqueID, limit: Int, after known: AuditHead?,
        holds: (AuditHead, RowMAC) -> Bool, _ seal: (AuditEntry, Int, [UInt8]) -> RowMAC
    ) async throws -> (count: Int, head: AuditHead?) {
        let log = chain
        let chain = ID<Subject.Tenant>(chain)
        return try await pool.transaction(scope: .platform) { transaction in
            // One sealer a log; it ends with the transaction.
            let isAlone = try await transaction.query(
                "SELECT pg_try_advisory_xact_lock(hashtextextended('audit ' || \(chain)::text, 0))"
            ) { try $0.decode(Bool.self) }
            guard isAlone == [true] else { return (0, nil) }
            // A checkpoint whose own MAC does not hold says nothing: it may be put in and taken away again.
            let checkpoints = try await transaction.query(
                """
                SELECT position, mac, checkpoint_key, checkpoint_mac FROM audit_checkpoints
                WHERE chain = \(chain)
                """
            ) { row -> (AuditHead, RowMAC) in
                let (count, mac, key, own) = try row.decode((Int, PostgresData, String, PostgresData).self)
                return (
                    AuditHead(chain: log, count: count, mac: mac.bytes), RowMAC(keyID: key, code: own.bytes)
                )
            }
            let cut = checkpoints.first { (head: AuditHead, own: RowMAC) in holds(head, own) }?.0
            if let known, known.count > cut?.count ?? 0 {
                let found = try await transaction.query(
                    "SELECT mac FROM audit_entries WHERE chain = \(chain) AND position = \(known.count)"
                ) { try $0.decode(PostgresData.self).bytes }
                guard found == [known.mac] else {
                    throw LedgerError(
                        .conflict,
                        "log \(log) is not as it was sealed up to \(known.count): nothing goes on top"
                    )
                }
            }
            let last = try await transaction.query(
                """
                SELECT position, mac FROM audit_entries WHERE chain = \(chain) AND position IS NOT NULL
                ORDER BY position DESC LIMIT 1
                """
            ) { try $0.decode((Int, PostgresData).self) }.first
            var (position, mac) = (last?.0 ?? cut?.count ?? 0, last?.1.bytes ?? cut?.mac ?? [])
            let entries = try await transaction.query(
                """
                SELECT \(fragment: Self.auditColumns) FROM audit_entries
                WHERE chain = \(chain) AND position IS NULL ORDER BY id LIMIT \(limit)
                """, decode: Self.auditEntry)
            guard !entries.isEmpty else { return (0, nil) }
            var macs: [RowMAC] = []
            let first = position + 1
            for entry in entries {
                position += 1
                let sealed = seal(entry, position, mac)
                mac = sealed.code
                macs.append(sealed)
            }
            try await transaction.execute(
                """
                UPDATE audit_entries e SET position = s.position, mac_key = s.mac_key, mac = s.mac
                FROM unnest(\(entries.map(\.id)), \(Array(first...position)), \(macs.map(\.keyID)),
                            \(macs.map { PostgresData($0.code) })) AS s(id, position, mac_key, mac)
                WHERE e.chain = \(chain) AND e.id = s.id
                """)
            return (entries.count, AuditHead(chain: log, count: position, mac: mac))
        }
    }

    /// The MAC of a sealed entry, if it is there.
    package func auditMAC(of chain: UniqueID, at position: Int) async throws -> [UInt8]? {
        try await pool.query(
            """
            SELECT mac FROM audit_entries
            WHERE chain = \(ID<Subject.Tenant>(chain)) AND position = \(position)
            """, scope: .platform
        ) { try $0.decode(PostgresData.self).bytes }.first
    }

    /// The heads of all logs.
    package func auditHeads() async throws -> [AuditHead] {
        try await pool.query(
            """
            WITH RECURSIVE chains AS (
                (SELECT chain FROM audit_entries ORDER BY chain LIMIT 1)
                UNION ALL
                SELECT n.chain FROM chains c
                CROSS JOIN LATERAL (
                    SELECT e.chain FROM audit_entries e WHERE e.chain > c.chain ORDER BY e.chain LIMIT 1
                ) n
            )
            SELECT c.chain, e.position, e.mac FROM chains c
            CROSS JOIN LATERAL (
                SELECT position, mac FROM audit_entries e
                WHERE e.chain = c.chain AND e.position IS NOT NULL ORDER BY e.position DESC LIMIT 1
            ) e
            """, scope: .platform
        ) { row in
            let (chain, count, mac) = try row.decode((ID<Subject.Tenant>, Int, PostgresData).self)
            return AuditHead(chain: chain.value, count: count, mac: mac.bytes)
        }
    }

    /// Where logs begin whose first entries were taken out, with the checkpoints' own MACs.
    package func auditCheckpoints() async throws -> [(head: AuditHead, mac: RowMAC)] {
        try await pool.query(
            "SELECT chain, position, mac, checkpoint_key, checkpoint_mac FROM audit_checkpoints",
            scope: .platform
        ) { row in
            let (chain, count, mac, key, own) = try row.decode(
                (ID<Subject.Tenant>, Int, PostgresData, String, PostgresData).self)
            return (
                AuditHead(chain: chain.value, count: count, mac: mac.bytes),
                RowMAC(keyID: key, code: own.bytes)
            )
        }
    }

    /// Lets the beginning of a log be taken out up to its head, or an entry before, which a checkpoint's own
    /// MAC stands for from now on; `false` if there is no such entry.
    package func checkpointAudit(_ head: AuditHead, mac: RowMAC) async throws -> Bool {
        try await pool.query(
            """
            SELECT crmm_checkpoint_audit(\(ID<Subject.Tenant>(head.chain)), \(head.count),
                                         \(PostgresData(head.mac)), \(mac.keyID), \(PostgresData(mac.code)))
            """, scope: .platform
        ) { try $0.decode(Bool.self) }.first ?? false
    }

    /// Takes out at most so many entries of a log that a checkpoint stands for; returns how many.
    package func pruneAudit(of chain: UniqueID, limit: Int) async throws -> Int {
        try await pool.query(
            "SELECT crmm_prune_audit(\(ID<Subject.Tenant>(chain)), \(Int32(limit)))", scope: .platform
        ) { try $0.decode(Int.self) }.first ?? 0
    }

    /// Takes out at most so many entries of a log that does not hold, of what is being erased; the platform's
    /// log says first what is wrong with it, and how many entries it had, under a MAC. Returns how many; the
    /// owner's login alone may.
    package func discardAudit(
        of head: AuditHead, mac: RowMAC, fault: String, limit: Int
    ) async throws -> Int {
        let chain = ID<Subject.Tenant>(head.chain)
        return try await pool.query(
            """
            SELECT crmm_discard_audit(\(chain), jsonb_build_object(
                'fault', \(fault)::text, 'position', \(head.count)::bigint, 'mac', '',
                'checkpointKey', \(mac.keyID)::text,
                'checkpointMac', encode(\(PostgresData(mac.code))::bytea, 'hex'))::text, \(Int32(limit)))
            """, scope: .platform
        ) { try $0.decode(Int.self) }.first ?? 0
    }

    /// The head of one log; `nil` if nothing of it is sealed, or it is not there.
    package func auditHead(of chain: UniqueID) async throws -> AuditHead? {
        try await pool.query(
            """
            SELECT position, mac FROM audit_entries
            WHERE chain = \(ID<Subject.Tenant>(chain)) AND position IS NOT NULL
            ORDER BY position DESC LIMIT 1
            """, scope: .platform
        ) { row in
            let (count, mac) = try row.decode((Int, PostgresData).self)
            return AuditHead(chain: chain, count: count, mac: mac.bytes)
        }.first
    }

    /// The last sealed entry of a log that is older than a time.
    package func auditHead(of chain: UniqueID, before time: Instant) async throws -> AuditHead? {
        try await pool.query(
            """
            SELECT position, mac FROM audit_entries
            WHERE chain = \(ID<Subject.Tenant>(chain)) AND position IS NOT NULL
              AND position < coalesce((SELECT min(position) FROM audit_entries
                                       WHERE chain = \(ID<Subject.Tenant>(chain)) AND at >= \(time)),
                                      \(Int.max))
            ORDER BY position DESC LIMIT 1
            """, scope: .platform
        ) { row in
            let (count, mac) = try row.decode((Int, PostgresData).self)
            return AuditHead(chain: chain, count: count, mac: mac.bytes)
        }.first
    }

    /// What the platform's log says of logs that went with what they were of, or as they did not hold: what
    /// stands in its entries, whose own MACs say whether that is true.
    package func erasedLogs(
        _ chains: [UniqueID]
    ) async throws -> [(head: AuditHead, mac: RowMAC, isDiscarded: Bool)] {
        try await pool.query(
            """
            SELECT subject_id, (after::jsonb->>'position')::bigint, decode(after::jsonb->>'mac', 'hex'),
                   after::jsonb->>'checkpointKey', decode(after::jsonb->>'checkpointMac', 'hex'),
                   action = 'audit.discarded'
            FROM audit_entries
            WHERE chain = \(ID<Subject.Tenant>(.zero))
              AND subject_id = ANY (\(chains.map { ID<Subject.Tenant>($0) }))
              AND action IN ('organizations.erased', 'partners.erased', 'audit.discarded')
              AND after IS NOT NULL
            """, scope: .platform
        ) { row in
            let (chain, count, mac, key, own, isDiscarded) = try row.decode(
                (ID<Subject.Tenant>, Int, PostgresData, String, PostgresData, Bool).self)
            return (
                AuditHead(chain: chain.value, count: count, mac: mac.bytes),
                RowMAC(keyID: key, code: own.bytes), isDiscarded
            )
        }
    }

    /// The sealed entries of a log after a position, in order.
    package func sealedAudit(of chain: UniqueID, after position: Int, limit: Int) async throws -> [AuditEntry]
    {
        try await pool.query(
            """
            SELECT \(fragment: Self.auditColumns) FROM audit_entries
            WHERE chain = \(ID<Subject.Tenant>(chain)) AND position > \(position)
            ORDER BY position LIMIT \(limit)
            """, scope: .platform, decode: Self.auditEntry)
    }

    private static let auditColumns: SQL = """
        chain, id, organization_id, partner_id, at, actor_kind, actor_id, address, request_id, action,
        subject_id, outcome, before, after, position, mac_key, mac
        """

    @Sendable private static func auditEntry(_ row: PostgresRow) throws -> AuditEntry {
        let (
            chain, id, organization, partner, at, kind, actor, address, request, action, subject, outcome,
            before, after, position, key, mac
        ) = try row.decode(
            (
                ID<Subject.Tenant>, AuditEntryID, OrganizationID?, PartnerID?, Instant, Int16, PrincipalID?,
                String?, RequestID?, String,
                ID<Subject.Tenant>?, Int16, String?, String?, Int?, String?, PostgresData?
            ).self)
        return AuditEntry(
            chain: chain.value, id: id, organization: organization, partner: partner, at: at,
            actorKind: Int(kind), actor: actor, address: address,
            request: request, action: action, subject: subject?.value, isRefused: outcome == 1,
            before: before, after: after, position: position,
            mac: key.flatMap { key in mac.map { RowMAC(keyID: key, code: $0.bytes) } })
    }
}
