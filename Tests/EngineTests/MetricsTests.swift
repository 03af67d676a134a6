import Domain
import Ledger
import Postgres
import Process
import Redis
import Streams
import TestSupport
import Testing
import Trust

@testable import Engine

/// What a process counts, and how it is shown.
@Suite(.serialized, .world) struct MetricsTests {
    /// The samples of a text by their names and labels.
    private func samples(_ text: String) -> [String: Double] {
        var samples: [String: Double] = [:]
        for line in text.split(separator: "\n") where !line.hasPrefix("#") {
            guard let space = line.lastIndex(of: " ") else { continue }
            samples[String(line[..<space])] = Double(line[line.index(after: space)...])
        }
        return samples
    }

    private func shown(_ metrics: EngineMetrics) -> [String: Double] {
        var text = Exposition()
        metrics.show(in: &text)
        return samples(text.text)
    }

    @Test("The documented table is the list of families")
    func table() throws {
        let place = #filePath.split(separator: "/").dropLast(3).joined(separator: "/")
        let page = try readFile("/\(place)/Sources/Engine/Documentation.docc/Metrics.md", max: 1 << 20)
        let rows = String(decoding: page, as: UTF8.self).split(separator: "\n").filter { $0.hasPrefix("| `") }
        let families = MetricFamily.all.map { family in
            let labels = family.labels.map { "`\($0)`" }.joined(separator: ", ")
            return "| `\(family.name)` | \(family.kind.rawValue) | \(family.unit) | "
                + "\(labels.isEmpty ? "–" : labels) | \(family.help) |"
        }
        #expect(rows.map(String.init) == families)
        #expect(Set(MetricFamily.all.map(\.name)).count == MetricFamily.all.count)
        for family in MetricFamily.all {
            #expect((family.kind == .counter) == family.name.hasSuffix("_total"), "\(family.name)")
        }
    }

    @Test("A text has every family once, samples under it, and escapes what would break a line")
    func exposition() {
        var text = Exposition()
        text.add(.apiEvents, ["a\"b\\c\nd"], 1.5)
        text.add(.refills, 3)
        var histogram = Histogram()
        for seconds in [-1, 0.005, 0.006, 100_000, .nan, .infinity] { histogram.count(seconds) }
        text.add(.waits, ["other"], histogram)
        let lines = text.text.split(separator: "\n", omittingEmptySubsequences: false)
        #expect(lines.count(where: { $0.hasPrefix("# TYPE ") }) == MetricFamily.all.count)
        #expect(lines.contains(#"cloudrmm_api_events_total{event="a\"b\\c\nd"} 1.5"#))
        #expect(
            lines.contains("# TYPE cloudrmm_refills_total counter")
                && lines.contains("cloudrmm_refills_total 3"))
        #expect(lines.contains(#"cloudrmm_wait_seconds_bucket{organization="other",le="0.005"} 2"#))
        #expect(lines.contains(#"cloudrmm_wait_seconds_bucket{organization="other",le="0.025"} 3"#))
        #expect(lines.contains(#"cloudrmm_wait_seconds_bucket{organization="other",le="86400"} 3"#))
        #expect(lines.contains(#"cloudrmm_wait_seconds_bucket{organization="other",le="+Inf"} 4"#))
        #expect(lines.contains(#"cloudrmm_wait_seconds_count{organization="other"} 4"#))
        #expect(lines.last == "", "the text ends in a line feed")
        let buckets = lines.filter { $0.hasPrefix("cloudrmm_wait_seconds_bucket") }
        #expect(buckets.count == Histogram.bounds.count + 1)
    }

    @Test("Names of organizations are bounded, the others are summed, and who becomes active gets a name")
    func slots() {
        let begin = ContinuousClock.now
        var slots = OrganizationSlots(limit: 2, empty: 0, now: begin)
        let organizations: [OrganizationID] = (0..<4).map { OrganizationID(UniqueID(high: $0, low: 0)) }
        func count(_ organization: Int, _ times: Int, at seconds: Int) {
            for _ in 0..<times {
                slots.count(organizations[organization], at: begin + .seconds(seconds)) { $0 += 1 }
            }
        }
        count(0, 10, at: 0)
        count(1, 4, at: 0)
        count(2, 9, at: 1)
        count(3, 5, at: 1)
        #expect(slots.holders.map(\.value) == [10, 4] && slots.others == 14)
        count(0, 1, at: 60)
        #expect(slots.holders.map(\.organization) == [organizations[0], organizations[2]])
        #expect(
            slots.holders.map(\.value) == [11, 0] && slots.others == 14, "what was counted stays where it is")
        count(2, 2, at: 61)
        count(1, 3, at: 61)
        #expect(slots.holders.map(\.value) == [11, 2] && slots.others == 17)
        // Not more than twice as active as the least active holder: it keeps its name.
        count(3, 1, at: 119)
        count(0, 1, at: 120)
        #expect(slots.holders.map(\.organization) == [organizations[0], organizations[2]])
    }

    @Test("Ten thousand organizations are at most twenty names and other")
    func cardinality() {
        let metrics = EngineMetrics()
        metrics.claimed((0..<10_000).map { OrganizationID(UniqueID(high: $0, low: 7)) })
        let claims = shown(metrics).filter { $0.key.hasPrefix("cloudrmm_claims_total") }
        #expect(claims.count == EngineMetrics.organizationsMax + 1)
        #expect(claims.values.reduce(0, +) == 10_000)
        #expect(claims[#"cloudrmm_claims_total{organization="other"}"#] == 9_980)
    }

    @Test("What runs go through is counted for their organization, each once")
    func loaded() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant(devices: 3)
            let post = try await Post.open(bench, holding: Array(tenant.all[..<2]))
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            await bench.front.offer([], and: [tenant.organization.queue(.standard)])
            #expect(try await bench.refiller.refillOnce() == 3)
            let gauges = QueueGauges(ledger: bench.world.worker, front: bench.front)
            var text = Exposition()
            await gauges.show(in: &text)
            let label = #"{organization="\#(tenant.organization)""#
            let standing = samples(text.text)
            #expect(standing[#"cloudrmm_queue_runs\#(label),state="queued"}"#] == 3)
            #expect(standing[#"cloudrmm_queue_runs\#(label),state="running"}"#] == 0)
            #expect(standing[#"cloudrmm_queue_oldest_seconds\#(label)}"#].map { $0 >= 0 } == true)
            try await bench.dispatchAll()
            let items = try await post.attempts()
            _ = try await post.take(items)
            let results = items.map {
                AttemptResult(
                    organization: $0.organization, device: $0.device, run: $0.run, attempt: $0.attempt,
                    token: $0.token, outcome: .failed, exitCode: 1, reason: nil,
                    startedAt: .now() + .seconds(-3), finishedAt: .now(),
                    output: OutputRow(
                        stdoutHead: [], stdoutTail: [], stdoutBytes: 0, stderrHead: [], stderrTail: [],
                        stderrBytes: 0))
            }
            for _ in 0..<2 {
                bench.front.metrics.settled(results, try await bench.world.gateway.settle(results))
            }
            try await bench.world.owner.execute(
                "UPDATE runs SET deadline = now(), expires_at = now() WHERE id IN (SELECT id FROM runs)",
                scope: .none)
            _ = try await bench.reconciler.judgeDeadlines()
            _ = try await bench.claim()
            let counted = shown(bench.front.metrics)
            func value(_ name: String, _ more: String = "") -> Double? { counted["\(name)\(label)\(more)}"] }
            #expect(value("cloudrmm_claims_total") == 3 && value("cloudrmm_marks_total") == 2)
            #expect(value("cloudrmm_settlements_total", #",outcome="failed""#) == 2)
            #expect(value("cloudrmm_settlements_total", #",outcome="declared""#) == 1, "\(runs.count)")
            #expect(value("cloudrmm_results_total", #",kind="duplicate""#) == 2)
            #expect(value("cloudrmm_wait_seconds_count") == 2 && value("cloudrmm_run_seconds_count") == 2)
            #expect(value("cloudrmm_run_seconds_bucket", #",le="2.5""#) == 0)
            #expect(value("cloudrmm_run_seconds_bucket", #",le="5""#) == 2)
            #expect(counted["cloudrmm_refills_total"] == 3 && counted["cloudrmm_rebuilds_total"] == 1)
            #expect(counted[#"cloudrmm_claims_total{organization="other"}"#] == 0)
        }
    }

    @Test("Leases that lapse are counted by their cause, and queues that straggle")
    func losses() async throws {
        try await Bench.run { bench in
            let tenant = try await bench.world.tenant()
            _ = try await Post.open(bench, holding: tenant.all)
            let (_, runs) = try await bench.world.submit(tenant, tenant.all)
            try await bench.age(.seconds(3))
            #expect(try await bench.reconciler.markStragglers())
            _ = try await bench.refiller.refillOnce()
            #expect(try await bench.claim().map(\.run) == runs.map(\.run))
            try await bench.lapseLeases()
            _ = try await bench.reconciler.sweepOnce()
            let counted = shown(bench.front.metrics)
            #expect(counted[#"cloudrmm_lease_losses_total{cause="lapsed"}"#] == 1)
            #expect(counted[#"cloudrmm_lease_losses_total{cause="unacknowledged"}"#] == 0)
            #expect(counted["cloudrmm_stragglers_total"] == 1)
        }
    }
}
