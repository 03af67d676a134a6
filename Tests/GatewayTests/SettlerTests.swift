import Domain
import Engine
import Ledger
import Logging
import NIOCore
import NIOEmbedded
import NIOWebSocket
import Postgres
import Synchronization
import TestSupport
import Testing
import Trust
import Wire

@testable import Gateway

/// Results on their way into a real ledger, with sessions whose connections are recorded.
@Suite(.serialized, .world, .timeLimit(.minutes(1))) struct SettlerTests {
    /// A settler, and what it told the queue.
    final class Desk: Sendable {
        let world: World
        let settler: Settler
        let counters = EventCounters()
        let lines = LogLines()
        private let told = Told()

        private final class Told: Sendable {
            let runs = Mutex<[SettledRun]>([])
        }

        init() throws {
            world = try World.here()
            settler = Settler(ledger: world.gateway, counters: counters, logger: lines.logger()) {
                [told] runs in
                told.runs.withLock { $0 += runs }
            }
        }

        var toldRuns: [SettledRun] { told.runs.withLock { $0 } }

        func start() -> Task<Void, Never> { Task { await settler.run() } }

        /// Ends the settler, which commits what is there.
        func stop(_ running: Task<Void, Never>) async {
            settler.finish()
            await running.value
        }
    }

    /// A session and its connection.
    struct Line {
        let session: Session
        let channel: NIOAsyncTestingChannel

        init(_ device: DeviceID, _ tenant: Tenant) {
            channel = NIOAsyncTestingChannel()
            session = Session(device: device, organization: tenant.organization, channel: channel)
        }

        /// The next frame that leaves.
        func next() async throws -> GatewayFrame {
            let frame = try await channel.waitForOutboundWrite(as: WebSocketFrame.self)
            return try GatewayFrame.decode(Array(buffer: frame.data))
        }
    }

    /// A job on so many devices, all of them dispatched, with a session each.
    private func dispatched(_ count: Int) async throws -> (Tenant, JobID, [(run: MarkedRun, line: Line)]) {
        let world = try World.here()
        try await world.clear()
        let tenant = try await world.tenant(devices: count)
        let (job, runs) = try await world.submit(tenant, tenant.all)
        let marked = try await world.mark(runs)
        try #require(marked.count == count)
        return (tenant, job, marked.map { ($0, Line($0.device, tenant)) })
    }

    private func item(_ run: MarkedRun, _ line: Line, reason: String? = nil) -> Settler.Item {
        let name = AttemptName(run: run.run, attempt: run.attempt, token: run.token)
        let finished = Finished(name: name, outcome: .failed, reason: reason, finishedAt: .now())
        return Settler.Item(result: AttemptResult(finished, line.session), session: line.session, name: name)
    }

    @Test("A result is acknowledged only after its commit")
    func afterCommit() async throws {
        let (_, _, runs) = try await dispatched(1)
        let desk = try Desk()
        let running = desk.start()
        let (run, line) = runs[0]
        try await desk.world.owner.transaction(scope: .none) { transaction in
            try await transaction.execute("SELECT FROM runs FOR UPDATE")
            desk.settler.submit(item(run, line))
            try await desk.world.blockedStatement()
            #expect(try await line.channel.readOutbound(as: WebSocketFrame.self) == nil)
        }
        #expect(try await line.next() == .acknowledged(item(run, line).name))
        #expect(try await desk.world.state(run.run) == .failed)
        await desk.stop(running)
        #expect(desk.toldRuns.map(\.run) == [run.run])
    }

    @Test(
        "What comes while one batch commits is the next batch, and each result is acknowledged to its session"
    )
    func batches() async throws {
        let (tenant, job, runs) = try await dispatched(300)
        let desk = try Desk()
        let running = desk.start()
        for (run, line) in runs { desk.settler.submit(item(run, line)) }
        for (run, line) in runs {
            #expect(try await line.next() == .acknowledged(item(run, line).name))
        }
        await desk.stop(running)
        #expect(desk.counters.snapshot == ["settled": 300])
        #expect(desk.toldRuns.count == 300)
        #expect(try await desk.world.api.job(job, scope: tenant.scope)?.counts == [.failed: 300])
    }

    @Test("A result that came twice in one batch is recorded once and acknowledged twice")
    func twice() async throws {
        let (tenant, job, runs) = try await dispatched(2)
        let desk = try Desk()
        for _ in 0..<3 { for (run, line) in runs { desk.settler.submit(item(run, line)) } }
        let running = desk.start()
        for (run, line) in runs {
            for _ in 0..<3 { #expect(try await line.next() == .acknowledged(item(run, line).name)) }
        }
        await desk.stop(running)
        #expect(desk.counters.snapshot == ["settled": 2, "duplicate": 4])
        #expect(desk.toldRuns.count == 2)
        #expect(try await desk.world.api.job(job, scope: tenant.scope)?.counts == [.failed: 2])
    }

    @Test("A result that the database refuses costs its own session alone; its neighbours are settled")
    func bisected() async throws {
        let (_, _, runs) = try await dispatched(21)
        let desk = try Desk()
        let trace = try #require(TraceContext("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01"))
        for (index, (run, line)) in runs.enumerated() {
            var item = item(run, line, reason: index == 13 ? "no\u{0}text" : nil)
            item.trace = trace
            desk.settler.submit(item)
        }
        let running = desk.start()
        for (index, (run, line)) in runs.enumerated() where index != 13 {
            #expect(try await line.next() == .acknowledged(item(run, line).name))
        }
        var close = try await runs[13].line.channel.waitForOutboundWrite(as: WebSocketFrame.self)
        #expect(close.opcode == .connectionClose)
        #expect(close.data.readWebSocketErrorCode().map { UInt16(webSocketErrorCode: $0) } == 4400)
        await desk.stop(running)
        #expect(desk.counters.snapshot == ["settled": 20, "refusedResults": 1])
        #expect(try await desk.world.state(runs[13].run.run) == .dispatched)
        let said = desk.lines.metadata(of: "a result was refused by the database")
        #expect(said.map { $0["run.id"] } == ["\(runs[13].run.run)"])
        // The agent's word stands under a name of its own.
        #expect(said.map { $0["trace.agent"] } == ["\(trace.traceID)"] && said[0]["trace"] == nil)
    }

    @Test("A batch whose connection broke is tried again, and recorded and acknowledged once")
    func transient() async throws {
        let (tenant, job, runs) = try await dispatched(5)
        let desk = try Desk()
        for (run, line) in runs { desk.settler.submit(item(run, line)) }
        let running = try await desk.world.owner.transaction(scope: .none) { transaction in
            try await transaction.execute("SELECT FROM runs FOR UPDATE")
            let running = desk.start()
            try await desk.world.blockedStatement()
            try await transaction.execute(
                """
                SELECT pg_terminate_backend(pid) FROM pg_stat_activity
                WHERE datname = current_database() AND usename = 'crmm_gateway'
                """)
            return running
        }
        for (run, line) in runs {
            #expect(try await line.next() == .acknowledged(item(run, line).name))
        }
        await desk.stop(running)
        #expect(try await desk.world.api.job(job, scope: tenant.scope)?.counts == [.failed: 5])
        for (_, line) in runs {
            #expect(try await line.channel.readOutbound(as: WebSocketFrame.self) == nil)
        }
    }

    @Test("A settler that is stopped commits what it has taken in")
    func stopped() async throws {
        let (_, _, runs) = try await dispatched(3)
        let desk = try Desk()
        for (run, line) in runs { desk.settler.submit(item(run, line)) }
        let running = desk.start()
        await desk.stop(running)
        for (run, _) in runs {
            #expect(try await desk.world.state(run.run) == .failed)
        }
    }

    @Test("Results of strangers and late ones are acknowledged and counted, and record nothing")
    func foreign() async throws {
        let (tenant, job, runs) = try await dispatched(2)
        let desk = try Desk()
        let running = desk.start()
        // The second device speaks of the first one's run.
        let stolen = item(runs[0].run, runs[1].line)
        desk.settler.submit(stolen)
        #expect(try await runs[1].line.next() == .acknowledged(stolen.name))
        let name = AttemptName(run: runs[0].run.run, attempt: 1, token: fresh())
        let finished = Finished(name: name, outcome: .succeeded, finishedAt: .now())
        let line = runs[0].line
        desk.settler.submit(
            Settler.Item(result: AttemptResult(finished, line.session), session: line.session, name: name))
        #expect(try await line.next() == .acknowledged(name))
        await desk.stop(running)
        #expect(desk.counters.snapshot == ["foreign": 1, "late": 1])
        #expect(desk.toldRuns.isEmpty)
        #expect(try await desk.world.api.job(job, scope: tenant.scope)?.counts == [.dispatched: 2])
    }
}
