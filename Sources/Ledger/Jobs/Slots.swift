package import Domain
import Postgres

/// The key that a job wants to hold, and within what.
package struct UniqueSlot: Sendable, Equatable {
    /// What names the same work.
    package var key: String
    /// The id of the organization, the site or the device within which it does, and the site of that.
    package var place: UniqueID
    package var site: SiteID?
    /// Whether it is held until the job has ended; else until the first of its runs leaves.
    package var whileRunning: Bool
    /// What becomes of the job if another holds it.
    package var onConflict: UniqueConflict

    /// A slot.
    package init(
        key: String, place: UniqueID, site: SiteID?, whileRunning: Bool, onConflict: UniqueConflict
    ) {
        self.key = key
        self.place = place
        self.site = site
        self.whileRunning = whileRunning
        self.onConflict = onConflict
    }
}

extension Ledger {
    /// Commits jobs of which some want unique keys: of those that want the same, one after the other, each as
    /// if it came alone.
    func submitUnique(
        _ jobs: [SubmittedJob], away: Set<DeviceID>, scope: Scope
    ) async throws -> Committed {
        var outcomes = [Submission?](repeating: nil, count: jobs.count)
        var all = Committed()
        var latest: [SlotName: (job: JobID, outcome: Submission)] = [:]
        var open = Array(jobs.indices)
        while !open.isEmpty {
            var wanted: Set<SlotName> = []
            var (turn, later): ([Int], [Int]) = ([], [])
            for index in open {
                guard let name = SlotName(jobs[index]) else {
                    turn.append(index)
                    continue
                }
                if wanted.contains(name) {
                    later.append(index)
                } else if let latest = latest[name],
                    let held = Self.held(jobs[index], after: latest.job, latest.outcome)
                {
                    outcomes[index] = held
                } else {
                    wanted.insert(name)
                    turn.append(index)
                }
            }
            open = later
            guard !turn.isEmpty else { continue }
            do {
                let made = try await submitTogether(turn.map { jobs[$0] }, away: away, scope: scope)
                all += made
                for (index, outcome) in zip(turn, made.outcomes) {
                    outcomes[index] = outcome
                    if let name = SlotName(jobs[index]) { latest[name] = (jobs[index].id, outcome) }
                }
            } catch let error as PostgresError where outcomes.contains(where: { $0 != nil }) {
                // What was committed before keeps its outcome.
                for index in turn + later { outcomes[index] = .failed(mayBeThere: error.mayHaveCommitted) }
                open = []
            }
        }
        all.outcomes = outcomes.map { $0 ?? .failed(mayBeThere: false) }
        return all
    }

    /// The outcome of a job that wants what one of the same call was just given, where it can be told.
    private static func held(_ job: SubmittedJob, after other: JobID, _ outcome: Submission) -> Submission? {
        guard job.idempotencyKey == nil, job.unique?.onConflict != .replace else { return nil }
        return switch outcome {
        case .accepted(let state), .replacing(_, let state): .held(other, state)
        case .held: outcome
        case .repeated, .idempotencyConflict, .missingDevice, .failed: nil
        }
    }

    private struct SlotName: Hashable {
        let organization: OrganizationID
        let place: UniqueID
        let key: String

        init?(_ job: SubmittedJob) {
            guard let unique = job.unique else { return nil }
            (organization, place, key) = (job.organization, unique.place, unique.key)
        }
    }

    /// The statements that come before and after the insertion of jobs, in the same transaction: each slot
    /// goes to the job that wants it unless another holds it, and those that were replaced get the request.
    static func slotStatements(_ jobs: [SubmittedJob]) -> (take: SQL, filter: SQL, require: SQL, cancel: SQL)
    {
        let wanting = jobs.filter { $0.unique != nil }
        let slots = wanting.compactMap(\.unique)
        let ids = wanting.map(\.id)
        let take: SQL = """
            INSERT INTO job_slots AS s (organization_id, place, site_id, key, job_id, while_running, replaces)
            SELECT i.organization_id, i.place, i.site_id, i.key, i.job_id, i.while_running, i.replaces
            FROM unnest(\(wanting.map(\.organization)), \(slots.map { JobID($0.place) }),
                        \(slots.map(\.site)), \(slots.map(\.key)), \(ids), \(slots.map(\.whileRunning)),
                        \(slots.map { $0.onConflict == .replace }), \(wanting.map(\.principal)),
                        \(wanting.map(\.idempotencyKey)))
                AS i(organization_id, place, site_id, key, job_id, while_running, replaces, created_by,
                     idempotency_key)
            -- What was asked before gets the same answer, and wants nothing.
            WHERE i.idempotency_key IS NULL
               OR NOT crmm_is_repeated(i.organization_id, i.created_by, i.idempotency_key)
            -- Every transaction waits for slots in this order.
            ORDER BY i.organization_id, i.place, i.key
            ON CONFLICT (organization_id, place, key) DO UPDATE
            SET site_id = excluded.site_id, job_id = excluded.job_id, while_running = excluded.while_running,
                replaces = excluded.replaces,
                replaced = CASE WHEN crmm_holds(s.organization_id, s.job_id, s.while_running)
                                THEN s.job_id END
            WHERE excluded.replaces OR NOT crmm_holds(s.organization_id, s.job_id, s.while_running)
            """
        let filter: SQL = """
            WHERE (u.id <> ALL (\(ids)) OR (SELECT true FROM job_slots s WHERE s.job_id = u.id LIMIT 1))
            """
        let cancel: SQL = """
            WITH locked AS MATERIALIZED (
                SELECT j.organization_id, j.id, s.job_id
                FROM (SELECT * FROM job_slots s
                      WHERE s.job_id = ANY (\(ids)) AND s.replaces AND s.replaced IS NOT NULL
                      ORDER BY s.organization_id, s.replaced) s
                CROSS JOIN LATERAL (
                    SELECT * FROM jobs j WHERE j.organization_id = s.organization_id AND j.id = s.replaced
                    OFFSET 0 FOR UPDATE
                ) j
                WHERE j.state < 10
            )
            UPDATE jobs j SET cancel_requested_at = coalesce(j.cancel_requested_at, now()),
                   cancel_pending = true
            FROM locked l
            WHERE j.organization_id IS NOT DISTINCT FROM l.organization_id AND j.id = ANY (ARRAY[l.id])
            RETURNING l.job_id, j.id
            """
        return (take, filter, "SELECT crmm_require_jobs_of_slots(\(ids))", cancel)
    }

    /// Who holds what a job wanted and did not get.
    func holder(of job: SubmittedJob, scope: Scope) async throws -> Submission {
        guard let unique = job.unique else { return .failed(mayBeThere: false) }
        let rows = try await pool.query(
            """
            SELECT j.id, j.state FROM (
                SELECT * FROM job_slots s WHERE s.organization_id = \(job.organization)
                  AND s.place = \(JobID(unique.place)) AND s.key = \(unique.key)
            ) s
            CROSS JOIN LATERAL (
                SELECT * FROM jobs j WHERE j.organization_id = s.organization_id AND j.id = s.job_id OFFSET 0
            ) j
            """, scope: scope
        ) { row in try row.decode((JobID, JobState).self) }
        return rows.first.map { .held($0.0, $0.1) } ?? .failed(mayBeThere: false)
    }

    /// What `crmm_require_jobs_of_slots` fails with.
    static let slotWithoutJob = "CR002"
}
