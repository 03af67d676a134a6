import Domain
import Ledger
import Postgres
import TestSupport
import Testing
import Trust
import Wire

@testable import Engine
@testable import Gateway

/// Attempts whose jobs name secrets: what the gateway asks for, and what it sends when it is answered.
@Suite(.serialized, .world, .timeLimit(.minutes(1))) struct SecretTests {
    private static let taken = Features.secrets

    private struct Scene {
        let tenant: Tenant
        let made: (certificate: Certificate, key: P256Key)
        let context: TLSContext
        var device: DeviceID { tenant.all[0] }
    }

    private func scene(_ bench: Bench) async throws -> Scene {
        let tenant = try await bench.world.tenant()
        let made = try Identities.shared.device(tenant.all[0], of: tenant.organization)
        try await bench.keep(made.certificate, tenant.all[0], tenant)
        return Scene(tenant: tenant, made: made, context: try bench.context(made))
    }

    /// Submits a job that names secrets, and dispatches it.
    private func dispatch(_ bench: Bench, _ scene: Scene) async throws -> MarkedRun {
        var job = bench.world.job(scene.tenant, devices: [scene.device])
        job.hasSecrets = true
        let runs = try await bench.world.api.submit([job], scope: scene.tenant.scope).queued
        return try await bench.dispatch(runs)[0]
    }

    /// The request for a run, once there is one.
    private func request(_ bench: Bench, _ run: RunID) async throws -> SecretRequest {
        var found: SecretRequest?
        try await bench.until {
            found = try await bench.world.api.openSecretRequests(limit: 9).map(\.request)
                .first { $0.run == run }
            return found != nil
        }
        return try #require(found)
    }

    private func requests(_ bench: Bench) async throws -> Int {
        try await bench.world.count("SELECT count(*) FROM secret_requests")
    }

    private func expectDispatch(
        _ agent: TestAgent, _ run: MarkedRun, _ secrets: [[UInt8]]?
    ) async throws {
        guard case .frame(.dispatch(let dispatch))? = await agent.next() else {
            Issue.record("no dispatch comes")
            return
        }
        #expect(dispatch.name == AttemptName(run: run.run, attempt: run.attempt, token: run.token))
        #expect(dispatch.secrets?.map(\.bytes) == secrets)
    }

    @Test("an attempt waits for what is sealed to the key of its session, and no row is left")
    func answered() async throws {
        try await Bench.run { bench in
            let scene = try await scene(bench)
            let agent = try await TestAgent.connect(bench, scene.context, features: Self.taken)
            _ = try await agent.welcome()
            let run = try await dispatch(bench, scene)
            let request = try await request(bench, run.run)
            #expect(request.deviceKey == scene.made.key.publicKey.der && request.device == scene.device)
            #expect(request.job == run.job && request.token == run.token)
            // What needs no secrets does not wait behind it.
            let (_, plain) = try await bench.world.submit(scene.tenant, [scene.device])
            let other = try await bench.dispatch(plain)[0]
            try await expectDispatch(agent, other, nil)
            try await bench.world.api.answer([(request, .sealed([[1, 2], [3]]))])
            try await expectDispatch(agent, run, [[1, 2], [3]])
            #expect(try await requests(bench) == 0)
        }
    }

    @Test("a refusal ends the attempt with its reason, and nothing is sent")
    func refused() async throws {
        try await Bench.run { bench in
            let scene = try await scene(bench)
            let agent = try await TestAgent.connect(bench, scene.context, features: Self.taken)
            _ = try await agent.welcome()
            let run = try await dispatch(bench, scene)
            try await bench.world.api.answer([
                (try await request(bench, run.run), .refused("the secret a was taken away"))
            ])
            try await bench.until { try await bench.world.state(run.run) == .failed }
            let row = try #require(try await bench.world.api.run(run.run, scope: .platform))
            #expect(row.reason == "rejected:secret")
            let output = try #require(try await bench.world.api.output(of: run.run, scope: .platform))
            #expect(String(decoding: output.stderrHead, as: UTF8.self) == "the secret a was taken away")
            let (_, plain) = try await bench.world.submit(scene.tenant, [scene.device])
            try await expectDispatch(agent, try await bench.dispatch(plain)[0], nil)
            #expect(try await requests(bench) == 0)
        }
    }

    @Test("an agent that takes no secrets is sent the job as it was signed, and nobody is asked")
    func tooOld() async throws {
        try await Bench.run { bench in
            let scene = try await scene(bench)
            let agent = try await TestAgent.connect(bench, scene.context)
            _ = try await agent.welcome()
            let run = try await dispatch(bench, scene)
            try await expectDispatch(agent, run, nil)
            #expect(try await requests(bench) == 0)
        }
    }

    @Test("a device that goes while its attempt waits is sent it when it comes again")
    func reconnected() async throws {
        try await Bench.run { bench in
            let scene = try await scene(bench)
            let agent = try await TestAgent.connect(bench, scene.context, features: Self.taken)
            _ = try await agent.welcome()
            let run = try await dispatch(bench, scene)
            let first = try await request(bench, run.run)
            try await agent.leave()
            try await bench.until {
                _ = try await bench.world.count("SELECT 1")
                return bench.gateway.sessionCount == 0
            }
            try await bench.world.owner.execute("DELETE FROM secret_requests", scope: .none)
            let again = try await TestAgent.connect(bench, scene.context, features: Self.taken)
            _ = try await again.welcome()
            let second = try await request(bench, run.run)
            #expect(second.token == first.token)
            try await bench.world.api.answer([(second, .sealed([[7]]))])
            try await expectDispatch(again, run, [[7]])
        }
    }

    @Test("an attempt that has ended while it waited is not sent")
    func ended() async throws {
        try await Bench.run { bench in
            let scene = try await scene(bench)
            let agent = try await TestAgent.connect(bench, scene.context, features: Self.taken)
            _ = try await agent.welcome()
            let run = try await dispatch(bench, scene)
            let request = try await request(bench, run.run)
            _ = try await bench.world.gateway.settle([
                AttemptResult(
                    organization: run.organization, device: run.device, run: run.run, attempt: run.attempt,
                    token: run.token, outcome: .cancelled, exitCode: nil, reason: nil, startedAt: nil,
                    finishedAt: .now(),
                    output: OutputRow(
                        stdoutHead: [], stdoutTail: [], stdoutBytes: 0, stderrHead: [], stderrTail: [],
                        stderrBytes: 0))
            ])
            try await bench.world.api.answer([(request, .sealed([[1]]))])
            try await bench.until { try await requests(bench) == 0 }
            let (_, plain) = try await bench.world.submit(scene.tenant, [scene.device])
            try await expectDispatch(agent, try await bench.dispatch(plain)[0], nil)
        }
    }
}
