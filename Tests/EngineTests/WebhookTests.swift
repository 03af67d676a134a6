import Domain
import Ledger
import Outbound
import Postgres
import Synchronization
import TestSupport
import Testing
import Trust

@testable import Engine

/// Webhooks from what happens to what a receiver gets.
@Suite(.serialized, .world) struct WebhookTests {
    @Test("A job's end is told once, signed so that others can check it, and leaves a line in the log")
    func path() async throws {
        try await WebhookBench.run { bench in
            let tenant = try await bench.world.tenant()
            let id = try await bench.webhook(.organization(tenant.organization), [.jobEnded])
            let (job, runs) = try await bench.world.submit(tenant, tenant.all)
            let marked = try await bench.world.mark(runs)
            _ = try await bench.world.gateway.take(marked.map { ($0.organization, $0.run, $0.token) })
            _ = try await bench.world.gateway.settle(
                marked.map {
                    AttemptResult(
                        organization: $0.organization, device: $0.device, run: $0.run, attempt: $0.attempt,
                        token: $0.token, outcome: .succeeded, exitCode: 0, reason: nil, startedAt: nil,
                        finishedAt: .now(),
                        output: OutputRow(
                            stdoutHead: [], stdoutTail: [], stdoutBytes: 0, stderrHead: [], stderrTail: [],
                            stderrBytes: 0))
                })
            #expect(try await !bench.spreader.spreadOnce())
            #expect(try await !bench.spreader.spreadOnce())
            let pool = bench.pool()
            try await bench.work(pool)
            let seen = try await bench.receiver.seen([WebhookBench.secret, "another"])
            #expect(seen.count == 1 && seen[0].signed == [true, false])
            let delivery = try #require(try await bench.deliveries(id).first)
            #expect(seen[0].headers["cloudrmm-event"] == "job.ended")
            #expect(seen[0].headers["cloudrmm-delivery"] == delivery.id.description)
            #expect(seen[0].headers["content-type"] == "application/json")
            for part in [
                #""id":"\#(delivery.event)","type":"job.ended","at":""#,
                #""organizationId":"\#(tenant.organization)","partnerId":"\#(tenant.partner)""#,
                #""id" : "\#(job)""#, #""state" : "completed""#, #""succeeded" : 1"#,
            ] { #expect(seen[0].body.contains(part), "\(part) in \(seen[0].body)") }
            #expect(delivery.state == .delivered && delivery.status == 204 && delivery.attempts == 1)
            #expect(delivery.error == nil && delivery.latencyMilliseconds != nil && delivery.nextAt == nil)
        }
    }

    @Test("While a secret is replaced both sign, afterwards the new one alone")
    func rotation() async throws {
        try await WebhookBench.run { bench in
            let tenant = try await bench.world.tenant()
            let id = try await bench.webhook(.partner(tenant.partner))
            var row = try await bench.row(id)
            row.secretVersion = 2
            row.sealed = [try bench.seal("whsec_new", row), row.sealed[0]]
            (row.version, row.previousExpiresAt) = (2, .now() + .seconds(60))
            #expect(try await bench.world.api.updateSecret(of: row, scope: .partner(tenant.partner)))
            let pool = bench.pool()
            try await bench.happen(tenant)
            try await bench.work(pool)
            try await bench.world.owner.execute(
                "UPDATE webhooks SET previous_expires_at = now()", scope: .none)
            try await bench.happen(tenant)
            try await bench.work(pool)
            let seen = try await bench.receiver.seen(["whsec_new", WebhookBench.secret])
            #expect(seen.map(\.signed) == [[true, true], [true, false]])
        }
    }

    @Test("What fails is sent again with the same ids and bytes after a growing wait, until it is taken")
    func retry() async throws {
        try await WebhookBench.run { bench in
            let tenant = try await bench.world.tenant()
            let id = try await bench.webhook(.organization(tenant.organization))
            try await bench.receiver.answer(500)
            try await bench.happen(tenant)
            let pool = bench.pool()
            try await bench.work(pool)
            let first = try #require(try await bench.deliveries(id).first)
            #expect(first.state == .pending && first.status == 500 && first.error == "status")
            #expect(first.attempts == 1 && first.failures == 1)
            let next = try #require(first.nextAt)
            #expect(next > .now() && next <= .now() + .seconds(180))
            #expect(try await bench.row(id).failingSince != nil)
            // Not before its time.
            _ = try await bench.upkeep.judgeDeadlines()
            try await bench.work(pool)
            #expect(try await bench.receiver.seen().count == 1)
            try await bench.receiver.answer(200)
            try await bench.lapse()
            try await bench.work(pool)
            let seen = try await bench.receiver.seen([WebhookBench.secret])
            #expect(seen.count == 2 && seen[0].body == seen[1].body)
            #expect(seen.allSatisfy { $0.signed == [true] })
            #expect(seen[0].headers["cloudrmm-delivery"] == seen[1].headers["cloudrmm-delivery"])
            let second = try #require(try await bench.deliveries(id).first)
            #expect(second.state == .delivered && second.attempts == 2 && second.nextAt == nil)
            let row = try await bench.row(id)
            #expect(row.failingSince == nil && row.failures == 0 && row.state == .active)
        }
    }

    @Test("The waits of ten attempts come to about a day at the most")
    func waits() {
        let policy = WebhookHandler.Policy()
        let most = (0..<policy.attempts - 1).map { policy.backoff.ceiling(attempt: $0) }.reduce(.zero, +)
        #expect(most > .seconds(20 * 3_600) && most < .seconds(28 * 3_600))
    }

    @Test(
        "A redirect is not followed, and no answer is read that is too large",
        arguments: [("/redirect", "redirect", 302 as Int?), ("/large", "bodyTooLarge", nil)])
    func answers(path: String, error: String, status: Int?) async throws {
        try await WebhookBench.run { bench in
            let tenant = try await bench.world.tenant()
            let id = try await bench.webhook(.organization(tenant.organization), path: path)
            try await bench.happen(tenant)
            try await bench.work(bench.pool())
            let delivery = try #require(try await bench.deliveries(id).first)
            #expect(delivery.error == error && delivery.status == status && delivery.state == .pending)
            #expect(try await bench.receiver.seen().map(\.path) == [path])
        }
    }

    @Test(
        "Nothing is sent to an address inside, however it is written or resolved",
        arguments: [
            "127.0.0.1", "localhost", "[::1]", "[::ffff:127.0.0.1]", "2130706433", "0x7f.1", "0.0.0.0",
        ])
    func inside(host: String) async throws {
        try await WebhookBench.run { bench in
            let tenant = try await bench.world.tenant()
            let id = try await bench.webhook(
                .organization(tenant.organization), url: "https://\(host):\(bench.receiver.port)/")
            try await bench.happen(tenant)
            try await bench.work(bench.pool(networks: .none))
            #expect(try await bench.deliveries(id).first?.error == "address")
            #expect(try await bench.receiver.seen().isEmpty)
        }
    }

    @Test("Each attempt judges the address that it connects to: a name that leads elsewhere then is refused")
    func rebinding() async throws {
        try await WebhookBench.run { bench in
            let tenant = try await bench.world.tenant()
            let url = "http://localhost:\(bench.receiver.port)/"
            let id = try await bench.webhook(.organization(tenant.organization), url: url)
            try await bench.happen(tenant)
            try await bench.receiver.answer(500)
            let networks = try #require(AllowedNetworks("127.0.0.0/8,::1"))
            try await bench.work(bench.pool(networks: networks))
            #expect(try await bench.deliveries(id).first?.error == "status")
            // The same name, now where only another network is allowed.
            try await bench.lapse()
            try await bench.work(bench.pool(networks: #require(AllowedNetworks("10.0.0.0/8")), bell: 1))
            #expect(try await bench.deliveries(id).first?.error == "address")
            #expect(try await bench.receiver.seen().count == 1)
        }
    }

    @Test("A receiver that says 410 is told nothing more; others hear of it, and the audit log has it")
    func gone() async throws {
        try await WebhookBench.run { bench in
            let tenant = try await bench.world.tenant()
            let id = try await bench.webhook(.organization(tenant.organization), path: "/status/410")
            let other = try await bench.webhook(.partner(tenant.partner), [.webhookDisabled])
            try await bench.happen(tenant)
            let pool = bench.pool()
            try await bench.work(pool)
            let row = try await bench.row(id)
            #expect(row.state == .failed && row.disabledReason == "gone" && row.disabledAt != nil)
            #expect(try await bench.deliveries(id).first?.state == .failed)
            _ = try await bench.spreader.spreadOnce()
            try await bench.work(pool)
            let told = try await bench.receiver.seen().filter { $0.path == "/" }
            #expect(told.count == 1 && told[0].headers["cloudrmm-event"] == "webhook.disabled")
            #expect(told[0].body.contains("\(id)") && told[0].body.contains("gone"))
            #expect(try await bench.deliveries(other).first?.state == .delivered)
            #expect(
                try await bench.world.count(
                    """
                    SELECT count(*) FROM audit_entries
                    WHERE action = 'webhooks.update' AND subject_id = \(id) AND actor_kind IN (0, 4)
                      AND after LIKE '%"disabled_reason": "gone"%'
                    """) == 1)
            // It listens to nothing now.
            try await bench.happen(tenant)
            #expect(try await bench.events("site.updated") == 1)
        }
    }

    @Test("Deliveries in a row that were given up disable a webhook, and one that is taken forgives them")
    func givenUp() async throws {
        try await WebhookBench.run { bench in
            let tenant = try await bench.world.tenant()
            let id = try await bench.webhook(.organization(tenant.organization))
            var policy = WebhookHandler.Policy()
            (policy.attempts, policy.patience.failures) = (2, 3)
            let pool = bench.pool(policy: policy)
            func fail(_ count: Int) async throws {
                try await bench.receiver.answer(503)
                try await bench.happen(tenant, times: count)
                try await bench.until("all are given up") {
                    try await bench.work(pool)
                    try await bench.lapse()
                    return try await bench.deliveries(id).allSatisfy { $0.state != .pending }
                }
            }
            try await fail(2)
            #expect(try await bench.row(id).failures == 2)
            try await bench.receiver.answer(200)
            try await bench.happen(tenant)
            try await bench.work(pool)
            #expect(try await bench.row(id).failures == 0)
            try await fail(2)
            #expect(try await bench.row(id).state == .active)
            try await fail(1)
            let row = try await bench.row(id)
            #expect(row.state == .failed && row.disabledReason == "deliveriesFailed")
            #expect(row.failures == 3)
            let states = try await bench.deliveries(id).map(\.state)
            #expect(states.count { $0 == .failed } == 5 && states.count { $0 == .delivered } == 1)
        }
    }

    @Test("Three days without an attempt that succeeded disable a webhook; a little less does not")
    func days() async throws {
        try await WebhookBench.run { bench in
            let tenant = try await bench.world.tenant()
            let id = try await bench.webhook(.organization(tenant.organization), path: "/status/500")
            let pool = bench.pool()
            for (hours, state) in [(71, WebhookState.active), (72, .failed)] {
                try await bench.world.owner.execute(
                    """
                    UPDATE webhooks SET failing_since = now() - make_interval(hours => \(Int32(hours)))
                    WHERE id = \(id)
                    """, scope: .none)
                try await bench.happen(tenant)
                try await bench.work(pool)
                #expect(try await bench.row(id).state == state)
            }
            #expect(try await bench.row(id).disabledReason == "failingForDays")
            // What waits is dropped.
            try await bench.lapse()
            try await bench.work(pool)
            #expect(try await bench.deliveries(id).allSatisfy { $0.state == .dropped })
        }
    }

    @Test("Whoever competes for events: each pair of event and webhook has one delivery and is sent once")
    func competition() async throws {
        try await WebhookBench.run { bench in
            let tenant = try await bench.world.tenant()
            let ids = [
                try await bench.webhook(.organization(tenant.organization)),
                try await bench.webhook(.partner(tenant.partner)), try await bench.webhook(.platform),
            ]
            for _ in 0..<20 {
                try await bench.world.owner.execute(
                    "UPDATE sites SET version = version + 1 WHERE id = \(tenant.sites[0])", scope: .none)
            }
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<4 { group.addTask { _ = try await bench.spreader.spreadOnce() } }
                try await group.waitForAll()
            }
            let (first, second) = (bench.pool(), bench.pool(bell: 1))
            try await bench.until("all are delivered") {
                for pool in [first, second] { _ = try await pool.claimOnce() }
                try await bench.lapse()
                var states: [WebhookDeliveryState] = []
                for id in ids { states += try await bench.deliveries(id).map(\.state) }
                return states.filter { $0 == .delivered }.count == 60
            }
            let seen = try await bench.receiver.seen()
            #expect(seen.count == 60 && Set(seen.map { $0.headers["cloudrmm-delivery"] }).count == 60)
            #expect(
                try await bench.world.count("SELECT count(*) FROM tasks WHERE kind = 'webhook.deliver'") == 60
            )
        }
    }

    @Test("A delivery that was given up is sent again under its id on demand, and one under way is not")
    func redelivery() async throws {
        try await WebhookBench.run { bench in
            let tenant = try await bench.world.tenant()
            let id = try await bench.webhook(.organization(tenant.organization))
            var policy = WebhookHandler.Policy()
            policy.attempts = 1
            let pool = bench.pool(policy: policy)
            try await bench.receiver.answer(500)
            try await bench.happen(tenant)
            let delivery = try #require(try await bench.deliveries(id).first)
            let early = await #expect(throws: LedgerError.self) {
                _ = try await bench.world.api.redeliver(delivery.id, scope: tenant.scope)
            }
            #expect(early?.code == .conflict)
            try await bench.work(pool)
            #expect(try await bench.deliveries(id).first?.state == .failed)
            try await bench.receiver.answer(200)
            let made = try await bench.world.api.redeliver(delivery.id, scope: tenant.scope)
            await bench.front.offer([made.queued])
            try await bench.work(pool)
            let after = try #require(try await bench.deliveries(id).first)
            #expect(after.state == .delivered && after.repeats == 1 && after.attempts == 2)
            let seen = try await bench.receiver.seen([WebhookBench.secret])
            #expect(seen.count == 2 && seen[0].body == seen[1].body && seen[1].signed == [true])
            let foreign = await #expect(throws: LedgerError.self) {
                _ = try await bench.world.api.redeliver(
                    delivery.id, scope: .organization(fresh()))
            }
            #expect(foreign?.code == .notFound)
        }
    }

    @Test("A receiver that does not answer has a few places, and others are told meanwhile")
    func slowReceiver() async throws {
        try await WebhookBench.run { bench in
            let tenant = try await bench.world.tenant()
            let slow = try await bench.webhook(.organization(tenant.organization), path: "/hold")
            try await bench.happen(tenant, times: 5)
            let fast = try await bench.webhook(.organization(tenant.organization), [.siteArchived])
            let pool = bench.pool(slots: WebhookSlots(limit: 2), concurrency: 4)
            repeat { _ = try await pool.claimOnce() } while pool.runningCount > 2
            try await bench.world.owner.execute(
                "UPDATE sites SET version = version + 1, state = 1 WHERE id = \(tenant.sites[0])",
                scope: .none)
            _ = try await bench.spreader.spreadOnce()
            try await bench.until("the other is told") {
                _ = try await pool.claimOnce()
                return try await bench.deliveries(fast).first?.state == .delivered
            }
            #expect(try await bench.deliveries(slow).allSatisfy { $0.state == .pending && $0.attempts == 0 })
            #expect(
                try await bench.world.count("SELECT count(*) FROM tasks WHERE failures > 0") == 0,
                "who waits for a place has not failed")
            try await bench.receiver.release()
            try await bench.until("all are told") {
                try await bench.lapse()
                _ = try await pool.claimOnce()
                return try await bench.deliveries(slow).allSatisfy { $0.state == .delivered }
            }
            try await bench.until("the pool is idle") { pool.runningCount == 0 }
        }
    }

    @Test("Places are promised one after another, by what an attempt took")
    func slots() {
        let time = Mutex(ContinuousClock.now)
        let slots = WebhookSlots(limit: 2, now: { time.withLock(\.self) })
        let id: WebhookID = fresh()
        #expect(slots.take(id) == nil && slots.take(id) == nil)
        slots.free(id, after: .seconds(8))
        #expect(slots.take(id) == nil)
        #expect(slots.take(id) == .seconds(4) && slots.take(id) == .seconds(8))
        #expect(slots.take(fresh()) == nil)
        time.withLock { $0 += .seconds(10) }
        #expect(slots.take(id) == .seconds(4))
    }

    @Test("Its secret is nowhere: not in a table, a task or the log, and an altered row sends nothing")
    func secrets() async throws {
        try await WebhookBench.run { bench in
            let tenant = try await bench.world.tenant()
            let id = try await bench.webhook(.organization(tenant.organization))
            let other = try await bench.webhook(.organization(tenant.organization), secret: "whsec_other")
            try await bench.receiver.answer(500)
            try await bench.happen(tenant)
            let pool = bench.pool()
            try await bench.work(pool)
            for table: SQL in ["webhooks", "webhook_events", "webhook_deliveries", "tasks", "audit_entries"] {
                let text = try await bench.world.owner.query(
                    "SELECT coalesce(string_agg(t::text, ' '), '') FROM \(fragment: table) t", scope: .none
                ) { try $0.decode(String.self) }.first
                #expect(text?.contains("whsec_") == false)
                #expect(text?.contains(Hex.encode(Array("whsec_".utf8))) == false)
            }
            #expect(bench.lines.metadata(of: "the secret of a webhook cannot be opened").isEmpty)
            // The secret of one, put into the row of another.
            try await bench.world.owner.execute(
                """
                UPDATE webhooks SET sealed = (SELECT sealed FROM webhooks WHERE id = \(other))
                WHERE id = \(id)
                """, scope: .none)
            let before = try await bench.receiver.seen().count
            try await bench.happen(tenant)
            try await bench.work(pool)
            #expect(try await bench.deliveries(id).first?.error == "secret")
            #expect(try await bench.receiver.seen().count == before + 1)
            let audit = try await bench.world.owner.query(
                "SELECT after FROM audit_entries WHERE subject_id = \(id)", scope: .none
            ) { try $0.decode(String?.self) }
            #expect(!audit.isEmpty && audit.allSatisfy { $0?.contains("sealed") == false })
        }
    }
}
