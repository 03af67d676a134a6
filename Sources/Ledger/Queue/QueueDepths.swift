package import Domain
package import Postgres

/// How much one queue has, as PostgreSQL counts it.
package struct QueueDepth: Sendable {
    /// Which queue.
    package let queue: OrganizationQueue
    /// Runs queued, waiting for their device, and on devices.
    package let queued: Int
    package let waiting: Int
    package let running: Int
    /// Whether all were counted; if not, there are at least so many of one or the other.
    package let isExact: Bool
    /// The age of the oldest queued run among those that were counted, which are the first in the queue.
    package let oldestAgeSeconds: Double?
}

extension Ledger {
    /// The queues of the organizations that the scope sees, by organization and priority, after the given
    /// one.
    ///
    /// A count ends at `atMost` rows of each state and queue (of waiting and running ones: of each
    /// organization), so that a view which is read again and again costs the same at a million queued runs.
    package func queueDepths(
        after: OrganizationQueue?, limit: Int, countingAtMost atMost: Int = Ledger.queueCountMax, scope: Scope
    ) async throws -> [QueueDepth] {
        let organizations = limit / Priority.allCases.count + 2
        return try await pool.query(
            """
            SELECT o.id, p.priority, q.queued, w.counts[p.priority + 1], d.counts[p.priority + 1],
                   q.queued < \(atMost) AND w.total < \(atMost) AND d.total < \(atMost), q.oldest
            FROM (
                SELECT id FROM organizations
                WHERE (\(after?.organization)::uuid IS NULL OR id >= \(after?.organization))
                ORDER BY id LIMIT \(organizations)
            ) o
            CROSS JOIN LATERAL (
                SELECT count(*) AS total, ARRAY[count(*) FILTER (WHERE priority = 0),
                       count(*) FILTER (WHERE priority = 1), count(*) FILTER (WHERE priority = 2)] AS counts
                FROM (SELECT priority FROM runs WHERE organization_id = o.id AND state = 2
                      LIMIT \(atMost)) r
            ) w
            CROSS JOIN LATERAL (
                SELECT count(*) AS total, ARRAY[count(*) FILTER (WHERE priority = 0),
                       count(*) FILTER (WHERE priority = 1), count(*) FILTER (WHERE priority = 2)] AS counts
                FROM (SELECT priority FROM runs WHERE organization_id = o.id AND state IN (3, 4)
                      LIMIT \(atMost)) r
            ) d
            CROSS JOIN LATERAL unnest(\(Priority.allCases)) AS p(priority)
            CROSS JOIN LATERAL (
                SELECT count(*) AS queued,
                       extract(epoch FROM now() - min(queued_at))::double precision AS oldest
                FROM (SELECT queued_at FROM runs
                      WHERE organization_id = o.id AND priority = p.priority AND state = 1
                      ORDER BY id LIMIT \(atMost)) r
            ) q
            WHERE (\(after?.organization)::uuid IS NULL
                   OR (o.id, p.priority) > (\(after?.organization), \(after?.priority)))
            ORDER BY o.id, p.priority LIMIT \(limit)
            """, scope: scope
        ) { row in
            let (organization, priority, queued, waiting, running, isExact, oldest) = try row.decode(
                (OrganizationID, Priority, Int, Int, Int, Bool, Double?).self)
            return QueueDepth(
                queue: OrganizationQueue(organization, priority), queued: queued, waiting: waiting,
                running: running, isExact: isExact, oldestAgeSeconds: oldest)
        }
    }

    /// How far a count of a queue goes: some milliseconds of walking.
    package static let queueCountMax = 10_000
}
