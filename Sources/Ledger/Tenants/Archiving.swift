package import Domain
package import Postgres

/// What became of the wish to archive or restore a row.
package enum Archiving: Sendable, Equatable {
    /// It is so now, or was before.
    case done
    /// It is of another version.
    case changedMeanwhile
    /// The scope does not see it.
    case missing
    /// A level above is archived, so this cannot be brought back alone.
    case closed
}

extension Ledger {
    /// Archives a part of the tenancy, or brings it back: the row, and with it what says of the rows below
    /// that a level above them is archived. All open jobs of what is archived get the request to be
    /// cancelled in the same transaction, so the mark lets nothing more go out; rows follow in `cancelRuns`.
    package func setArchived(
        _ isArchived: Bool, _ level: Level, version: Int?, scope: Scope
    ) async throws -> Archiving {
        let (table, id, open, below): (SQL, UniqueID, SQL, [SQL])
        switch level {
        case .partner(let partner):
            (table, id, open) = ("partners", partner.value, "true")
            below = [
                """
                UPDATE organizations o SET closed = p.state <> 0 FROM partners p
                WHERE p.id = \(partner) AND o.partner_id = p.id
                """,
                """
                UPDATE sites s SET closed = o.state <> 0 OR o.closed FROM organizations o
                WHERE o.partner_id = \(partner) AND s.organization_id = o.id
                """,
                Self.cancelJobs(
                    """
                    SELECT o.id FROM organizations o JOIN partners p ON p.id = o.partner_id
                    WHERE p.id = \(partner) AND p.state <> 0
                    """, if: isArchived),
            ]
        case .organization(let organization):
            (table, id, open) = ("organizations", organization.value, "NOT closed")
            below = [
                """
                UPDATE sites s SET closed = o.state <> 0 OR o.closed FROM organizations o
                WHERE o.id = \(organization) AND s.organization_id = o.id
                """,
                Self.cancelJobs(
                    "SELECT id FROM organizations WHERE id = \(organization) AND state <> 0",
                    if: isArchived),
            ]
        case .site(let site):
            (table, id, open) = ("sites", site.value, "NOT closed")
            below = [
                """
                UPDATE jobs j SET cancel_requested_at = coalesce(j.cancel_requested_at, now()),
                       cancel_pending = true
                FROM sites s
                WHERE \(isArchived) AND s.id = \(site) AND s.state <> 0
                  AND j.organization_id = s.organization_id AND j.site_id = s.id AND j.state < 10
                """
            ]
        case .platform, .organizations: preconditionFailure("one row is archived at a time")
        }
        let row: ID<Subject.Tenant> = ID(id)
        let results = try await pool.pipeline(
            scope: scope,
            [
                """
                UPDATE \(fragment: table) SET state = \(Int16(isArchived ? 1 : 0)), version = version + 1,
                       updated_at = now()
                WHERE id = \(row) AND state = \(Int16(isArchived ? 0 : 1))
                  AND version = coalesce(\(version), version) AND (\(isArchived) OR \(fragment: open))
                """
            ] + below + [
                """
                SELECT state = \(Int16(isArchived ? 1 : 0)), \(fragment: open) FROM \(fragment: table)
                WHERE id = \(row)
                """
            ])
        guard let found = results.last?.rows.first else { return .missing }
        let (isSo, isOpen) = try found.decode((Bool, Bool).self)
        if !isArchived, !isOpen { return .closed }
        return isSo ? .done : .changedMeanwhile
    }

    private static func cancelJobs(_ organizations: SQL, if isArchived: Bool) -> SQL {
        """
        UPDATE jobs SET cancel_requested_at = coalesce(cancel_requested_at, now()), cancel_pending = true
        WHERE \(isArchived) AND organization_id = ANY (ARRAY(\(fragment: organizations))) AND state < 10
        """
    }

    /// Whether a level is in use: neither it nor one above it is archived or gone.
    package func isInUse(_ level: Level) async throws -> Bool {
        let statement: SQL =
            switch level {
            case .platform: "SELECT true"
            case .partner(let id): "SELECT state = 0 FROM partners WHERE id = \(id)"
            case .organization(let id): "SELECT state = 0 AND NOT closed FROM organizations WHERE id = \(id)"
            case .organizations(let ids):
                """
                SELECT bool_or(state = 0 AND NOT closed) FROM organizations WHERE id = ANY (\(Array(ids)))
                """
            case .site(let id): "SELECT state = 0 AND NOT closed FROM sites WHERE id = \(id)"
            }
        return try await pool.query(statement, scope: .platform) { row in
            try row.decode(Bool?.self) ?? false
        }.first ?? false
    }

    /// The organizations of these that are in use.
    package func organizationsInUse(_ ids: Set<OrganizationID>) async throws -> Set<OrganizationID> {
        Set(
            try await pool.query(
                """
                SELECT id FROM organizations WHERE id = ANY (\(Array(ids))) AND state = 0 AND NOT closed
                """, scope: .platform
            ) { row in try row.decode(OrganizationID.self) })
    }

    /// Ends as `archived` the open runs that devices of a site, or one device, have and that were not sent,
    /// and asks for the others to be cancelled, up to 500 of each, in one transaction; as `cancelRuns` does
    /// for jobs.
    package func cancelRuns(
        ofSite site: SiteID?, device: DeviceID?, organization: OrganizationID
    ) async throws -> (ended: [SettledRun], sent: [CancelledRun]) {
        let which: SQL = """
            r.organization_id = \(organization) AND r.site_id = coalesce(\(site), r.site_id)
            AND r.device_id = coalesce(\(device), r.device_id)
            """
        let results = try await pool.pipeline(
            scope: .organization(organization),
            [
                """
                WITH ended AS MATERIALIZED (
                    SELECT r.organization_id, r.id, 13::smallint AS outcome, 'archived'::text AS reason
                    FROM runs r WHERE \(fragment: which) AND r.sent_at IS NULL
                    LIMIT 500 FOR UPDATE SKIP LOCKED
                ), \(fragment: Self.endWithoutWord)
                """,
                """
                WITH locked AS MATERIALIZED (
                    SELECT r.organization_id, r.id FROM runs r
                    WHERE \(fragment: which) AND r.sent_at IS NOT NULL AND r.cancel_requested_at IS NULL
                    LIMIT 500 FOR UPDATE SKIP LOCKED
                )
                UPDATE runs r SET cancel_requested_at = now(), deadline = now() + interval '2 minutes'
                FROM locked l WHERE \(fragment: Self.isLocked)
                RETURNING r.organization_id, r.job_id, r.id, r.device_id, r.attempt, r.token
                """,
            ])
        return (try results[0].rows.map(Self.settledRun), try results[1].rows.map(Self.cancelledRun))
    }
}
