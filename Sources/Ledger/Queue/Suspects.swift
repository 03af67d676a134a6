package import Domain
import Postgres

/// What a dispatcher may do with a claim whose owners have crashed.
package enum Trial: Sendable, Equatable {
    /// Take it alone, and say so when it was carried through.
    case begun
    /// It has taken as many dispatchers with it as it may: it has ended.
    case poisoned(SettledRun)
    /// The run is not queued in this generation any more.
    case stale
}

extension Ledger {
    /// How many lone crashes end a run.
    package static let loneCrashesMax = 3

    /// Notes, before anything is done with it, that a dispatcher takes a suspect run alone: what is left of
    /// the note when the dispatcher has died is a lone crash. After the third the run ends as failed, with
    /// the reason `poison`, and its notes are the evidence.
    package func beginTrial(_ run: QueuedRun, owner: String) async throws -> Trial {
        let rows = try await pool.query(
            """
            WITH locked AS MATERIALIZED (
                SELECT r.organization_id, r.id, r.attempt + CASE WHEN r.token IS NULL THEN 1 ELSE 0 END
                           AS attempt,
                       s.crashes, s.last
                FROM (SELECT \(run.organization)::uuid AS organization_id, \(run.run)::uuid AS id) i
                \(fragment: Self.lockRun)
                CROSS JOIN LATERAL (
                    SELECT count(*)::integer AS crashes, coalesce(max(trial), 0) AS last FROM suspects s
                    WHERE s.organization_id = r.organization_id AND s.run_id = r.id
                ) s
                WHERE r.state = 1 AND r.generation = \(Int32(run.generation))
            ), noted AS (
                INSERT INTO suspects (organization_id, run_id, trial, attempt, owner)
                SELECT organization_id, id, last + 1, attempt, \(owner) FROM locked
                WHERE crashes < \(Int32(Self.loneCrashesMax))
                -- Somebody else is at it at this moment: then it is not this one's to try.
                ON CONFLICT DO NOTHING
                RETURNING run_id
            ), ended AS MATERIALIZED (
                SELECT organization_id, id, 11::smallint AS outcome, 'poison'::text AS reason FROM locked
                WHERE crashes >= \(Int32(Self.loneCrashesMax))
            ), \(fragment: Self.endWithoutWordSteps)
            SELECT (SELECT count(*) FROM noted), g.organization_id, g.id, g.device_id, g.generation, g.lane,
                   g.job_id
            FROM (VALUES (1)) AS one LEFT JOIN gone g ON true
            """, scope: .organization(run.organization)
        ) { row in
            try row.decode(
                (Int, OrganizationID?, RunID?, DeviceID?, Int32?, Lane?, JobID?).self)
        }
        guard let (noted, organization, id, device, generation, lane, job) = rows.first else { return .stale }
        if let organization, let id, let device, let generation, let lane, let job {
            return .poisoned(
                SettledRun(
                    organization: organization, run: id, device: device, generation: Int(generation),
                    lane: lane, job: job))
        }
        return noted > 0 ? .begun : .stale
    }

    /// Runs of these generations that were marked by a dispatcher which then died are suspects also in their
    /// next generation, but for those that their gateway has taken.
    package func suspect(_ runs: [(OrganizationID, RunID, Int)]) async throws {
        try await pool.execute(
            """
            WITH locked AS MATERIALIZED (
                SELECT r.organization_id, r.id
                FROM (SELECT * FROM unnest(\(runs.map(\.0)), \(runs.map(\.1)), \(runs.map { Int32($0.2) }))
                          AS i(organization_id, id, generation) ORDER BY organization_id, id) i
                \(fragment: Self.lockRun)
                WHERE r.generation = i.generation AND r.state = 3 AND r.sent_at IS NULL
            )
            UPDATE runs r SET suspect = true FROM locked l WHERE \(fragment: Self.isLocked)
            """, scope: .organizations(runs.map(\.0)))
    }

    /// Those of these runs that wait to be taken alone.
    package func suspects(among runs: [QueuedRun]) async throws -> Set<RunID> {
        guard !runs.isEmpty else { return [] }
        let found = try await pool.query(
            """
            SELECT i.id
            FROM unnest(\(runs.map(\.organization)), \(runs.map(\.run)),
                        \(runs.map { Int32($0.generation) })) AS i(organization_id, id, generation)
            CROSS JOIN LATERAL (
                SELECT * FROM runs r WHERE r.organization_id = i.organization_id AND r.id = i.id OFFSET 0
            ) r
            WHERE r.suspect AND r.state = 1 AND r.generation = i.generation
            """, scope: .organizations(runs.map(\.organization))
        ) { row in try row.decode(RunID.self) }
        return Set(found)
    }

    /// A claim that was taken alone was carried through: the run is no suspect any more. Or, of one owner:
    /// its trial was none, and what others have noted stays.
    package func endTrial(
        _ organization: OrganizationID, _ run: RunID, of owner: String? = nil
    ) async throws {
        // The run before its notes, as where a trial begins.
        var statements: [SQL] = [
            """
            DELETE FROM suspects
            WHERE organization_id = \(organization) AND run_id = \(run)
              AND (\(owner)::text IS NULL OR owner = \(owner))
            """
        ]
        if owner == nil {
            statements.insert(
                """
                WITH locked AS MATERIALIZED (
                    SELECT r.organization_id, r.id
                    FROM (SELECT \(organization)::uuid AS organization_id, \(run)::uuid AS id) i
                    \(fragment: Self.lockRun)
                    WHERE r.suspect
                )
                UPDATE runs r SET suspect = false FROM locked l WHERE \(fragment: Self.isLocked)
                """, at: 0)
        }
        try await pool.pipeline(scope: .organization(organization), statements)
    }

    /// Removes the notes about runs that are neither open nor dead letters any more.
    package func forgetSuspects() async throws {
        try await pool.execute(
            """
            DELETE FROM suspects s
            WHERE NOT EXISTS (SELECT FROM runs r
                              WHERE r.organization_id = s.organization_id AND r.id = s.run_id)
              AND NOT EXISTS (SELECT FROM run_history h
                              WHERE h.organization_id = s.organization_id AND h.id = s.run_id AND h.dead)
            """, scope: .platform)
    }
}
