import Domain
import Postgres
import TestSupport
import Testing
import Trust

@testable import Ledger

/// Who hears of what, and whose webhooks and deliveries are whose.
@Suite(.serialized, .world) struct WebhookTests {
    /// A webhook of a level that listens to these.
    private func webhook(_ home: Level, _ events: [WebhookEventType]) async throws -> WebhookID {
        let row = WebhookRow(
            id: fresh(), home: LevelColumns(home), url: "https://example.com/", description: "",
            events: events, sealed: [1], createdBy: nil, createdAt: .now())
        #expect(try await World.here().api.insert(row, scope: home.scope))
        return row.id
    }

    private func clear() async throws {
        try await World.here().owner.pipeline(
            scope: .none,
            [
                "DELETE FROM webhook_deliveries", "DELETE FROM webhook_events", "DELETE FROM webhooks",
                "DELETE FROM tasks",
            ])
    }

    /// The types of the events that were written since the last look.
    private func written() async throws -> [String] {
        try await World.here().owner.query(
            "WITH e AS (DELETE FROM webhook_events RETURNING id, type) SELECT type FROM e ORDER BY id",
            scope: .none
        ) { try $0.decode(String.self) }
    }

    private func end(_ tenant: Tenant) async throws {
        let world = try World.here()
        let (_, runs) = try await world.submit(tenant, [tenant.all[0]])
        _ = try await world.gateway.settle(try await world.send(runs).map { AttemptResult($0) })
    }

    @Test("Where nobody listens, the end of jobs and other changes write nothing")
    func cost() async throws {
        let world = try World.here()
        try await clear()
        let (tenant, other) = (try await world.tenant(), try await world.tenant())
        try await end(tenant)
        #expect(try await written() == [])
        // Others listen, and this one to something else.
        let others = try await webhook(.organization(other.organization), WebhookEventType.allCases)
        _ = try await webhook(.partner(other.partner), WebhookEventType.allCases)
        let own = try await webhook(.organization(tenant.organization), [.siteCreated])
        try await end(tenant)
        #expect(try await written() == [])
        try await end(other)
        #expect(try await written() == ["job.ended"])
        // One that is disabled does not listen.
        try await world.owner.execute(
            "UPDATE webhooks SET state = 1 WHERE id = ANY(\([own, others]))", scope: .none)
        _ = try await written()
        _ = try await world.api.createSite(
            fresh(), organization: tenant.organization, name: "x", mac: World.mac, scope: tenant.scope)
        #expect(try await written() == [])
    }

    @Test("A change is heard at its own level and above, also where who makes it sees no webhook there")
    func levels() async throws {
        let world = try World.here()
        try await clear()
        let tenant = try await world.tenant()
        let sister = try await world.tenant(of: tenant.partner)
        let stranger = try await world.tenant()
        let listening = [
            try await webhook(.organization(tenant.organization), [.siteCreated]),
            try await webhook(.partner(tenant.partner), [.siteCreated, .organizationCreated]),
            try await webhook(.platform, [.siteCreated]),
        ]
        for foreign in [Level.organization(sister.organization), .partner(stranger.partner)] {
            _ = try await webhook(foreign, [.siteCreated])
        }
        _ = try await world.api.createSite(
            fresh(), organization: tenant.organization, name: "x", mac: World.mac, scope: tenant.scope)
        let (events, queued) = try await world.api.spreadEvents(limit: 10)
        #expect(events == 1 && queued.count == 3)
        #expect(
            Set(queued.map(\.organization))
                == [tenant.organization, ID(tenant.partner.value), OrganizationID(.zero)])
        for id in listening {
            let deliveries = try await world.api.deliveries(of: id, before: nil, limit: 9, scope: .platform)
            #expect(deliveries.map(\.type) == ["site.created"])
        }
        #expect(try await world.count("SELECT count(*) FROM webhook_deliveries") == 3)
        // The trigger puts the scope back: what follows in the transaction sees no more than before.
        let seen = try await world.logins[0].pool.transaction(scope: tenant.scope) { transaction in
            _ = try await transaction.execute(
                "UPDATE sites SET version = version + 1, name = 'y' WHERE id = \(tenant.sites[0])")
            return try await transaction.query("SELECT count(*) FROM organizations") {
                try $0.decode(Int.self)
            }
        }
        #expect(seen == [1])
    }

    @Test("Each change has its type")
    func types() async throws {
        let world = try World.here()
        try await clear()
        let tenant = try await world.tenant()
        _ = try await webhook(.platform, WebhookEventType.allCases)
        _ = try await written()
        let user: UserID = fresh()
        let changes: [(SQL, String)] = [
            ("UPDATE partners SET version = 2, name = 'n' WHERE id = \(tenant.partner)", "partner.updated"),
            ("UPDATE partners SET version = 3, state = 1 WHERE id = \(tenant.partner)", "partner.archived"),
            ("UPDATE partners SET version = 4, state = 0 WHERE id = \(tenant.partner)", "partner.updated"),
            (
                "UPDATE organizations SET version = 2, state = 1 WHERE id = \(tenant.organization)",
                "organization.archived"
            ),
            ("UPDATE sites SET version = 2, name = 'n' WHERE id = \(tenant.sites[0])", "site.updated"),
            ("UPDATE sites SET version = 3, state = 1 WHERE id = \(tenant.sites[0])", "site.archived"),
            ("UPDATE devices SET version = 2, state = 1 WHERE id = \(tenant.all[0])", "device.updated"),
            ("UPDATE devices SET version = 3, state = 2 WHERE id = \(tenant.all[0])", "device.archived"),
            (
                """
                INSERT INTO users (id, organization_id, email, name, state, expires_at, mac_key, mac)
                VALUES (\(user), \(tenant.organization), 'a@b.c', 'n', 1, now(), '', '')
                """, "user.created"
            ),
            ("UPDATE users SET state = 2 WHERE id = \(user)", "user.disabled"),
        ]
        for (change, type) in changes {
            try await world.owner.execute(change, scope: .none)
            #expect(try await written() == [type])
        }
        _ = try await world.tenant()
        #expect(
            try await written() == [
                "partner.created", "organization.created", "site.created", "device.enrolled",
            ])
        // What an agent says of itself is no change.
        try await world.owner.execute(
            "UPDATE devices SET hostname = 'other', last_seen_at = now() WHERE id = \(tenant.all[0])",
            scope: .none)
        #expect(try await written() == [])
    }

    @Test("A scope sees and touches the webhooks and deliveries of its own level and below, and no others")
    func isolation() async throws {
        let world = try World.here()
        try await clear()
        let mine = try await world.tenant()
        let sister = try await world.tenant(of: mine.partner)
        let stranger = try await world.tenant()
        let homes: [Level] = [
            .platform, .partner(mine.partner), .organization(mine.organization),
            .organization(sister.organization), .organization(stranger.organization),
        ]
        var hooks: [(WebhookID, WebhookDeliveryID)] = []
        for home in homes {
            let id = try await webhook(home, [.jobEnded])
            let made = try #require(try await world.api.testWebhook(id, scope: home.scope))
            hooks.append((id, made.id))
        }
        let cases: [(Scope, Set<Int>)] = [
            (.platform, [0, 1, 2, 3, 4]), (.partner(mine.partner), [1, 2, 3]), (mine.scope, [2]),
            (.organizations([mine.organization, stranger.organization]), [2, 4]),
            (.partner(stranger.partner), [4]), (.site(mine.sites[0]), []), (.none, []),
            (.partner(ID(mine.organization.value)), []), (.organization(ID(mine.partner.value)), []),
        ]
        let page = PageRequest(after: nil, limit: 100)
        for (scope, sees) in cases {
            let listed = try await world.api.webhooks(page, scope: scope).map(\.id)
            #expect(Set(listed) == Set(sees.map { hooks[$0].0 }), "\(scope.setting)")
            for (index, (id, delivery)) in hooks.enumerated() {
                let isSeen = sees.contains(index)
                #expect(try await (world.api.webhook(id, scope: scope) != nil) == isSeen)
                #expect(try await (world.api.delivery(delivery, scope: scope) != nil) == isSeen)
                #expect(
                    try await world.api.deliveries(of: id, before: nil, limit: 9, scope: scope).count
                        == (isSeen ? 1 : 0))
                guard !isSeen else { continue }
                #expect(try await world.api.testWebhook(id, scope: scope) == nil)
                #expect(try await !world.api.deleteWebhook(id, version: nil, scope: scope))
                var row = try #require(try await world.api.webhook(id, scope: .platform))
                (row.url, row.version) = ("https://elsewhere.example/", row.version + 1)
                #expect(try await !world.api.update(row, scope: scope))
                row.secretVersion += 1
                #expect(try await !world.api.updateSecret(of: row, scope: scope))
                let refused = await #expect(throws: LedgerError.self) {
                    _ = try await world.api.redeliver(delivery, scope: scope)
                }
                #expect(refused?.code == .notFound)
            }
        }
        // Nobody makes one above.
        for home in [Level.platform, .partner(mine.partner), .organization(sister.organization)] {
            let row = WebhookRow(
                id: fresh(), home: LevelColumns(home), url: "https://example.com/", description: "",
                events: [.jobEnded], sealed: [1], createdBy: nil, createdAt: .now())
            await #expect(throws: PostgresError.self) { try await world.api.insert(row, scope: mine.scope) }
        }
        // Events are for no scope but the platform's, and for no other login.
        for scope in [mine.scope, .partner(mine.partner)] {
            #expect(
                try await world.logins[0].pool.query("SELECT count(*) FROM webhook_events", scope: scope) {
                    try $0.decode(Int.self)
                } == [0])
        }
        for login in world.logins where login.name != "crmm_api" {
            for table: SQL in ["url FROM webhooks", "payload FROM webhook_events", "url FROM webhooks"] {
                let refused = await #expect(throws: PostgresError.self) {
                    try await login.pool.execute("SELECT \(fragment: table)", scope: .platform)
                }
                #expect(refused?.sqlState == "42501")
            }
        }
    }

    @Test("An owner has so many webhooks and no more")
    func limit() async throws {
        let world = try World.here()
        try await clear()
        let tenant = try await world.tenant()
        for _ in 0..<Ledger.webhooksMax { _ = try await webhook(.partner(tenant.partner), [.jobEnded]) }
        let row = WebhookRow(
            id: fresh(), home: LevelColumns(.partner(tenant.partner)), url: "https://example.com/",
            description: "", events: [.jobEnded], sealed: [1], createdBy: nil, createdAt: .now())
        #expect(try await !world.api.insert(row, scope: .partner(tenant.partner)))
        _ = try await webhook(.organization(tenant.organization), [.jobEnded])
    }

    @Test("What is older than it is kept goes: deliveries by their owner's days, events by the default")
    func retention() async throws {
        let world = try World.here()
        try await clear()
        let tenant = try await world.tenant()
        for home in [Level.organization(tenant.organization), .partner(tenant.partner)] {
            let id = try await webhook(home, [.jobEnded])
            for _ in 0..<2 { _ = try await world.api.testWebhook(id, scope: home.scope) }
        }
        // Ids carry the time, so one of each two gets an older one.
        try await world.owner.pipeline(
            scope: .none,
            [
                """
                UPDATE webhook_deliveries d SET id = crmm_uuid7_floor(now() - interval '91 days' +
                    (abs(hashtext(d.id::text)) % 86000) * interval '1 second')
                FROM (SELECT max(id::text)::uuid AS id FROM webhook_deliveries GROUP BY webhook_id) l
                WHERE l.id = d.id
                """,
                """
                UPDATE webhook_events SET id = crmm_uuid7_floor(now() - interval '100 days')
                WHERE id = (SELECT min(id::text)::uuid FROM webhook_events)
                """,
                """
                UPDATE tasks SET state = 10, id = crmm_uuid7_floor(
                    now() - interval '100 days' + (abs(hashtext(id::text)) % 86000) * interval '1 second')
                """,
            ])
        #expect(
            try await world.worker.removeDeliveries(before: 90, of: tenant.organization, limit: 100) == 1)
        #expect(try await world.count("SELECT count(*) FROM webhook_deliveries") == 3)
        try await world.worker.removeWebhookWork(before: 90, limit: 100)
        #expect(try await world.count("SELECT count(*) FROM webhook_deliveries") == 2)
        #expect(try await world.count("SELECT count(*) FROM webhook_events") == 3)
        #expect(
            try await world.count("SELECT count(*) FROM tasks WHERE organization_id = \(tenant.organization)")
                == 2, "they go by their organization's own retention")
        #expect(try await world.count("SELECT count(*) FROM tasks") == 2)
    }
}
