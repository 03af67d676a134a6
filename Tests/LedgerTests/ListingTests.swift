import Domain
import Postgres
import TestSupport
import Testing

@testable import Ledger

/// Lists over all organizations that a scope sees.
@Suite struct ListingTests {
    /// Three organizations of one partner with jobs and tasks in turns, and among them many of another's.
    private static func rows(_ world: World) async throws -> (mine: [Tenant], theirs: Tenant) {
        let first = try await world.tenant()
        var mine = [first]
        for _ in 0..<2 { mine.append(try await world.tenant(of: first.partner)) }
        let theirs = try await world.tenant()
        let organizations = mine.map(\.organization)
        // One of eight hundred is the partner's, by turns of its organizations.
        try await world.owner.pipeline(
            scope: .none,
            [
                """
                CREATE TEMPORARY TABLE listed ON COMMIT DROP AS
                SELECT n, lpad(to_hex(n), 32, '0')::uuid AS id,
                       CASE WHEN n % 800 = 0
                            THEN (\(organizations)::uuid[])[1 + (n / 800) % 3]
                            ELSE \(theirs.organization) END AS organization_id
                FROM generate_series(1, 16000) AS n
                """,
                """
                INSERT INTO jobs (organization_id, id, kind, state, priority, statement, timeout_seconds,
                                  maximum_attempts, idempotent, total, created_by, expires_at, retry_on,
                                  backoff_seconds, backoff_seconds_max)
                SELECT organization_id, id, 'script', 1, \(Priority.standard), '1', 60, 3, false, 0,
                       \(World.principal), now() + interval '1 hour', 2, 86400, 86400
                FROM listed
                """,
                """
                INSERT INTO tasks (organization_id, id, kind, payload, state, priority, maximum_attempts,
                                   backoff_seconds, maximum_backoff_seconds, timeout_seconds, queued_at,
                                   expires_at, deadline)
                SELECT organization_id, id, CASE WHEN n % 1600 = 0 THEN 'even' ELSE 'odd' END, '{}', 1,
                       \(Priority.standard), 5, 60, 3600, 600, now(), now() + interval '1 hour',
                       now() + interval '1 hour'
                FROM listed
                """,
            ])
        return (mine, theirs)
    }

    private static func id(_ number: Int) -> UniqueID { UniqueID(high: 0, low: UInt64(number)) }
    private static let numbers = (1...20).map { $0 * 800 }

    /// The blocks that a call touches.
    private static func blocks(_ world: World, _ call: () async throws -> Void) async throws -> Int {
        func touched() async throws -> Int {
            try await world.flushStatistics()
            return try await world.count(
                """
                SELECT sum(heap_blks_hit + heap_blks_read + coalesce(idx_blks_hit, 0)
                           + coalesce(idx_blks_read, 0))::bigint
                FROM pg_statio_user_tables WHERE relname IN ('jobs', 'tasks')
                """)
        }
        try await call()
        let before = try await touched()
        try await call()
        return try await touched() - before
    }

    @Test("Pages of jobs and tasks go on through all organizations of a scope, in order")
    func pages() async throws {
        try await World.with(connections: 1) { world in
            let (mine, theirs) = try await Self.rows(world)
            let (api, whole) = (world.api, TaskFilter())
            let even = TaskFilter(kind: TaskKind("even", partition: 1_997))
            for scope in [Scope.partner(mine[0].partner), .organizations(mine.map(\.organization))] {
                var (jobs, tasks): ([JobRow], [TaskRow]) = ([], [])
                repeat {
                    jobs += try await api.jobs(
                        organization: nil, before: jobs.last?.id, limit: 7, scope: scope)
                } while jobs.count % 7 == 0
                repeat {
                    let page = PageRequest(after: tasks.last?.id.value, limit: 7)
                    tasks += try await api.tasks(whole, page, scope: scope)
                } while tasks.count % 7 == 0
                #expect(jobs.map(\.id.value) == Self.numbers.reversed().map(Self.id))
                #expect(tasks.map(\.id.value) == Self.numbers.map(Self.id))
                #expect(Set(jobs.map(\.organization)) == Set(mine.map(\.organization)))
                let some = try await api.tasks(even, PageRequest(after: nil, limit: 7), scope: scope)
                let expected = Self.numbers.filter { $0 % 1_600 == 0 }.prefix(7)
                #expect(some.map(\.id.value) == expected.map(Self.id))
            }
            let one = try await api.jobs(organization: nil, before: nil, limit: 9, scope: mine[1].scope)
            #expect(one.map(\.organization) == Array(repeating: mine[1].organization, count: 7))
            let none = try await api.jobs(organization: nil, before: nil, limit: 9, scope: .none)
            #expect(none.isEmpty)
            let all = try await api.jobs(organization: nil, before: nil, limit: 2, scope: .platform)
            #expect(all.map(\.organization).contains(theirs.organization) && all.count == 2)
        }
    }

    @Test("A page of a site's scope has the jobs of the site alone")
    func site() async throws {
        try await World.with(connections: 1) { world in
            let tenant = try await world.tenant(sites: 2)
            let job = try await world.submit(tenant, tenant.all).job
            _ = try await world.submit(tenant, tenant.all)
            try await world.owner.execute(
                "UPDATE jobs SET site_id = \(tenant.sites[1]) WHERE id = \(job)", scope: .none)
            func list(_ site: SiteID) async throws -> [JobID] {
                try await world.api.jobs(organization: nil, before: nil, limit: 5, scope: .site(site))
                    .map(\.id)
            }
            #expect(try await list(tenant.sites[1]) == [job])
            #expect(try await list(tenant.sites[0]) == [])
        }
    }

    @Test("A page costs what it shows, however many rows others have")
    func cost() async throws {
        try await World.with(connections: 1) { world in
            let (mine, _) = try await Self.rows(world)
            let scope = Scope.partner(mine[0].partner)
            let jobs = try await Self.blocks(world) {
                _ = try await world.api.jobs(organization: nil, before: nil, limit: 5, scope: scope)
            }
            let tasks = try await Self.blocks(world) {
                let page = PageRequest(after: nil, limit: 5)
                _ = try await world.api.tasks(TaskFilter(), page, scope: scope)
            }
            // A walk over all of them touches some hundreds.
            #expect(jobs <= 100 && jobs > 0, "\(jobs) blocks for five jobs")
            #expect(tasks <= 100 && tasks > 0, "\(tasks) blocks for five tasks")
        }
    }
}
