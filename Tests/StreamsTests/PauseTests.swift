import Domain
import Redis
import TestSupport
import Testing

@testable import Streams

/// Pauses of an organization, a priority, and everything.
@Suite struct PauseTests {
    @Test("A paused priority of an organization waits; its others and those of others go on")
    func priority() async throws {
        try await Bench.run { bench in
            let (one, other) = (Draw.organization(), Draw.organization())
            for organization in [one, other] {
                for priority in Priority.allCases {
                    try await bench.enqueue(Draw.entries(5), organization, priority)
                }
            }
            #expect(
                try await bench.queue.pause(organization: one, priority: .standard, epoch: bench.epoch))
            let claims = try await bench.claim()
            #expect(claims.shares == [one: 10, other: 15])
            #expect(!claims.contains { $0.organization == one && $0.priority == .standard })
            try await bench.queue.sweep(epoch: bench.epoch)
            #expect(try await bench.claim().isEmpty)
            #expect(try await bench.members("ready").isEmpty)
            let depth = try await bench.queue.depths(of: [one])[0]
            #expect(depth.pausedPriorities == [.standard] && !depth.paused)
            try await bench.invariants()
            _ = try await bench.takeBell()
            #expect(
                try await bench.queue.resume(organization: one, priority: .standard, epoch: bench.epoch))
            #expect(try await bench.takeBell())
            #expect(try await bench.claim().count == 5)
        }
    }

    @Test("A priority that is paused for all waits for all, until it is resumed")
    func priorityOfAll() async throws {
        try await Bench.run { bench in
            // More than one page of queues.
            let organizations = (0..<300).map { _ in Draw.organization() }
            for organization in organizations {
                try await bench.enqueue(Draw.entries(1), organization, .bulk)
            }
            let other = Draw.organization()
            try await bench.enqueue(Draw.entries(1), other, .interactive)
            try await bench.queue.pause(organization: nil, priority: .bulk, epoch: bench.epoch)
            #expect(try await bench.claim().shares == [other: 1])
            #expect(try await bench.claim().isEmpty)
            try await bench.enqueue(Draw.entries(1), organizations[0], .bulk)
            #expect(try await bench.claim().isEmpty)
            try await bench.queue.resume(organization: nil, priority: .bulk, epoch: bench.epoch)
            try await bench.invariants()
            var claims: [Claim] = []
            for _ in 0..<3 { claims += try await bench.claim() }
            #expect(claims.count == 301)
        }
    }

    /// What each organization in service was charged.
    private func tags(_ bench: Bench) async throws -> [String: Double] {
        var tags: [String: Double] = [:]
        for organization in try await bench.members("ready") {
            let score = try await bench.raw("ZSCORE", "finish", .string(organization)).double
            let ready = try await bench.raw("ZSCORE", "ready", .string(organization)).double
            tags[organization] = score ?? ready
        }
        return tags
    }

    @Test("When everything is paused nothing is claimed and nobody is woken; tags and other pauses stay")
    func everything() async throws {
        try await Bench.run { bench in
            let organizations = (0..<300).map { _ in Draw.organization() }
            let paused = organizations[7]
            for organization in organizations { try await bench.enqueue(Draw.entries(2), organization) }
            _ = try await bench.claim(100)
            let tags = try await tags(bench)
            try await bench.queue.pause(organization: paused, epoch: bench.epoch)
            #expect(try await bench.queue.pause(organization: nil, epoch: bench.epoch))
            #expect(try await !bench.queue.pause(organization: nil, epoch: bench.epoch))
            _ = try await bench.takeBell()
            let claims = try await bench.queue.claim(
                owner: "a", limit: 100, leaseMilliseconds: 1, epoch: bench.epoch)
            #expect(claims.items.isEmpty && !claims.more)
            try await bench.enqueue(Draw.entries(2), organizations[3])
            try await bench.queue.resume(organization: organizations[3], epoch: bench.epoch)
            try await bench.queue.sweep(epoch: bench.epoch)
            #expect(try await bench.claim().isEmpty)
            #expect(try await !bench.takeBell())
            #expect(try await bench.queue.depths(of: [organizations[0]])[0].paused)
            try await bench.invariants()
            #expect(try await bench.queue.resume(organization: nil, epoch: bench.epoch))
            #expect(try await !bench.queue.resume(organization: nil, epoch: bench.epoch))
            #expect(try await bench.takeBell())
            #expect(try await bench.members("ready").count == 299)
            _ = try await bench.queue.resume(organization: paused, epoch: bench.epoch)
            let after = try await self.tags(bench)
            #expect(after == tags)
            try await bench.invariants()
        }
    }

    @Test("A rebuild begins with the pauses that it is given")
    func rebuilt() async throws {
        try await Bench.run { bench in
            let (one, two) = (Draw.organization(), Draw.organization())
            let epoch = Epoch.fresh()
            try await bench.queue.rebuild(
                epoch: epoch, entitlements: [Entitlement(organization: two, paused: true)],
                pauses: [
                    Pause(organization: one, priority: .bulk), Pause(organization: nil, priority: .standard),
                ],
                running: [])
            for queue in [one, two].flatMap(OrganizationQueue.all) {
                _ = try await bench.queue.enqueue(Draw.entries(1), in: queue, epoch: epoch)
            }
            let claims = try await bench.queue.claim(
                owner: "a", limit: 100, leaseMilliseconds: 1, epoch: epoch
            ).items
            #expect(claims.map(\.priority) == [.interactive])
            #expect(claims.map(\.organization) == [one])
        }
    }
}
