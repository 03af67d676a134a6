import Domain
import Engine
import Ledger
import TestSupport
import Testing
import Trust
import Wire

@testable import Gateway

/// Key sets on their way to agents: before anything that a new key has signed.
@Suite(.serialized, .world, .timeLimit(.minutes(1))) struct KeySetTests {
    private struct Scene {
        let tenant: Tenant
        let context: TLSContext
    }

    private func scene(_ bench: Bench) async throws -> Scene {
        let tenant = try await bench.world.tenant()
        let contexts = try await bench.enroll(tenant)
        return Scene(tenant: tenant, context: try #require(contexts[tenant.all[0]]))
    }

    /// A job whose statement a key of its own has signed, on its way to the device.
    private func dispatch(_ bench: Bench, _ scene: Scene, key: SigningKey) async throws {
        var job = bench.world.job(scene.tenant, devices: [scene.tenant.all[0]])
        job.statement =
            SignedStatement.sign(
                Statement(
                    type: .job, deployment: Identities.shared.deployment.bytes,
                    organization: scene.tenant.organization.bytes, issuedAt: Instant.now().seconds,
                    expiresAt: Instant.now().seconds + 600, payload: [1]),
                with: key
            ).encoded
        let runs = try await bench.world.api.submit([job], scope: scene.tenant.scope).queued
        _ = try await bench.dispatch(runs)
    }

    @Test("A hello with an older key set is welcomed with the newest, another one is not")
    func welcome() async throws {
        try await Bench.run { bench in
            let scene = try await scene(bench)
            for version in [2, 4, 3] {
                try await bench.world.api.publish(keySet: [9, UInt8(version)], version: version)
            }
            try await bench.gateway.keySet.look()
            var hello = Hello.example()
            let old = try await TestAgent.connect(bench, scene.context, hello: hello).welcome()
            #expect(old.keySet?.bytes == [9, 4])
            hello.keySetVersion = 4
            #expect(try await TestAgent.connect(bench, scene.context, hello: hello).welcome().keySet == nil)
        }
    }

    @Test("A key set is handed over as soon as it is published, once, and to those who take it")
    func push() async throws {
        try await Bench.run { bench in
            let scene = try await scene(bench)
            let agent = try await TestAgent.connect(bench, scene.context, features: .statements)
            #expect(try await agent.welcome().keySet == nil)
            try await bench.world.api.publish(keySet: [7], version: 2)
            #expect(await agent.next() == .frame(.statements(NewerStatements(keySet: Base64Bytes([7])))))
            #expect(bench.gateway.counters.snapshot["keySetsPushed"] == 1)
            try await agent.send(.ping(1))
            #expect(await agent.next() == .frame(.pong(1)), "nothing of it comes twice")
        }
    }

    @Test("The first job that a new key has signed comes behind the key set that names it")
    func order() async throws {
        try await Bench.run { bench in
            let scene = try await scene(bench)
            let agent = try await TestAgent.connect(bench, scene.context, features: .statements)
            _ = try await agent.welcome()
            let (old, new) = (SigningKey(), SigningKey())
            try await dispatch(bench, scene, key: old)
            guard case .frame(.dispatch)? = await agent.next() else {
                Issue.record("no dispatch")
                return
            }
            // As fast as nothing that looks once a second is.
            try await bench.world.api.publish(keySet: [7], version: 2)
            try await dispatch(bench, scene, key: new)
            #expect(await agent.next() == .frame(.statements(NewerStatements(keySet: Base64Bytes([7])))))
            guard case .frame(.dispatch)? = await agent.next() else {
                Issue.record("no dispatch")
                return
            }
        }
    }

    @Test("An agent that takes no statements between welcomes gets such a job behind its next one")
    func older() async throws {
        try await Bench.run { bench in
            let scene = try await scene(bench)
            let agent = try await TestAgent.connect(bench, scene.context)
            _ = try await agent.welcome()
            try await bench.world.api.publish(keySet: [7], version: 2)
            try await dispatch(bench, scene, key: SigningKey())
            #expect(await agent.next() == .closed(4410))
            let again = try await TestAgent.connect(bench, scene.context)
            #expect(try await again.welcome().keySet?.bytes == [7])
            guard case .frame(.dispatch)? = await again.next() else {
                Issue.record("no dispatch")
                return
            }
        }
    }
}
