package import Domain
package import Postgres

/// How much one queue has, as PostgreSQL counts it.
package struct QueueDepth: Sendable {
    /// Which queue.
    package let queue: OrganizationQueue
    /// Runs queued.
    package internal(set) var queued: Int
    /// Runs that wait for their device, and those on devices.
    package let waiting: Int
    package let running: Int
    /// Whether all were counted; if not, there are at least so many of one or the other.
    package var isExact: Bool { !isQueuedCut && !isRestCut }
    /// Whether the queued ones, and whether the others of the organization were not counted to their end.
    let isQueuedCut: Bool
    let isRestCut: Bool
    /// The age of the oldest queued run among those that were counted, which are the first in the queue.
    package let oldestAgeSeconds: Double?
}

extension QueueDepth {
    /// Adds to what was not counted to its end what the organization's open runs leave; to several queues of
    /// one organization the same.
    static func filled(_ depths: [QueueDepth], to open: [OrganizationID: Int]) -> [QueueDepth] {
        var depths = depths
        for (organization, open) in open {
            let own = depths.indices.filter { depths[$0].queue.organization == organization }
            let cut = own.filter { depths[$0].isQueuedCut }
            guard own.count == Priority.allCases.count, !cut.isEmpty,
                !own.contains(where: { depths[$0].isRestCut })
            else { continue }
            let counted = own.reduce(0) { $0 + depths[$1].queued + depths[$1].waiting + depths[$1].running }
            for at in cut { depths[at].queued += max(0, open - counted) / cut.count }
        }
        return depths
    }
}

extension Ledger {
    /// The queues of the organizations that the scope sees, by organization and priority, after the given
    /// one.
    ///
    /// A count ends at `atMost` rows of each state and queue (of waiting and running ones: of each
    /// organization), so that a view which is read again and again costs the same at a million queued runs.
    /// Queued runs that were not counted to their end are said by the counter of open runs, which has those
    /// of targets that are being expanded too, and what is due later. Where the page has not all queues
    /// of the organization, or others of its runs were not counted to their end, there are at least so many.
    package func queueDepths(
        after: OrganizationQueue?, limit: Int, countingAtMost atMost: Int = Ledger.queueCountMax, scope: Scope
    ) async throws -> [QueueDepth] {
        let organizations = limit / Priority.allCases.count + 2
        let counted = try await pool.query(
            """
            SELECT o.id, p.priority, q.queued, w.counts[p.priority + 1], d.counts[p.priority + 1],
                   q.queued = \(atMost), w.total = \(atMost) OR d.total = \(atMost), q.oldest
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
                      WHERE \(fragment: Self.isQueued("o.id", "p.priority", after: "\(JobID(.zero))"))
                      ORDER BY priority, id LIMIT \(atMost)) r
            ) q
            WHERE (\(after?.organization)::uuid IS NULL
                   OR (o.id, p.priority) > (\(after?.organization), \(after?.priority)))
            ORDER BY o.id, p.priority LIMIT \(limit)
            """, scope: scope
        ) { row in
            let (organization, priority, queued, waiting, running, isQueuedCut, isRestCut, oldest) =
                try row.decode((OrganizationID, Priority, Int, Int, Int, Bool, Bool, Double?).self)
            return QueueDepth(
                queue: OrganizationQueue(organization, priority), queued: queued, waiting: waiting,
                running: running, isQueuedCut: isQueuedCut, isRestCut: isRestCut, oldestAgeSeconds: oldest)
        }
        let long = Array(Set(counted.lazy.filter(\.isQueuedCut).map(\.queue.organization)))
        if long.isEmpty { return counted }
        let open = try await openWork(of: long, scope: scope)
        return QueueDepth.filled(counted, to: open.mapValues(\.used.runs))
    }

    /// How far a count of a queue goes: some milliseconds of walking.
    package static let queueCountMax = 10_000
}
