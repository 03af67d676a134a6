import Access
import Client
import Domain
import Engine
import Streams
import TestSupport
import Testing
import Wire

@testable import API

@Suite("How many interactive runs go before standard ones")
struct InteractiveTests {
    private func client(_ api: TestAPI, _ level: Level) async throws -> APIClient {
        try await api.client(level, [.queuesRead, .queuesWrite])
    }

    @Test("the bucket is set by the minute, shown with the queues, and removed; the queue has it at once")
    func bucket() async throws {
        try await TestAPI.with { api in
            let one = api.one.organization
            let tenant = try await client(api, .organization(one))
            #expect(try await tenant.interactive(of: one) == .standard)
            #expect(try await tenant.queue(of: one).interactive == .standard)
            let new = InteractiveBucket(perMinute: 30, burst: 0)
            #expect(try await tenant.limitInteractive(one, new) == new)
            #expect(try await tenant.interactive(of: one) == new)
            #expect(try await tenant.queue(of: one).interactive == new)
            let kept = try await api.queue.entitlements().first { $0.organization == one }
            #expect(kept?.interactiveRate == 0.5 && kept?.interactiveBurst == 0)
            // What is not given is the default.
            let partner = try await client(api, .partner(api.one.partner))
            #expect(
                try await partner.limitInteractive(one, InteractiveBucket(burst: 7))
                    == InteractiveBucket(perMinute: 600, burst: 7))
            #expect(try await partner.limitInteractive(one, InteractiveBucket()) == .standard)
            #expect(try await api.queue.entitlements().first { $0.organization == one } == nil)
            // Bounds, and what a second's number does to a minute's.
            for edge in [
                InteractiveBucket(perMinute: 0.6, burst: 0), InteractiveBucket(perMinute: 7, burst: 1),
                InteractiveBucket(perMinute: 600_000, burst: 100_000),
            ] {
                #expect(try await tenant.limitInteractive(one, edge) == edge)
                #expect(try await tenant.interactive(of: one) == edge)
            }
        }
    }

    @Test("nobody sees or sets the bucket of an organization of others, and a key that only reads sets none")
    func foreign() async throws {
        try await TestAPI.with { api in
            let one = api.one.organization
            let other = try await client(api, .organization(api.other.organization))
            let site = try await client(api, .site(api.one.site))
            let new = InteractiveBucket(perMinute: 1, burst: 1)
            for refused in [
                try await refusal { _ = try await other.interactive(of: one) },
                try await refusal { _ = try await other.limitInteractive(one, new) },
                try await refusal { _ = try await site.limitInteractive(one, new) },
            ] {
                #expect(refused.status == 404 || refused.status == 403)
            }
            let reader = try await api.client(.organization(one), [.queuesRead])
            #expect(try await refusal { _ = try await reader.limitInteractive(one, new) }.status == 403)
            #expect(try await reader.interactive(of: one) == .standard)
        }
    }

    @Test("bad input names field, value and limit, and changes nothing")
    func badInput() async throws {
        try await TestAPI.with { api in
            let one = api.one.organization
            let tenant = try await client(api, .organization(one))
            let cases: [(InteractiveBucket, field: String, says: String)] = [
                (InteractiveBucket(perMinute: 0.59), "perMinute", "0.6 to 600000"),
                (InteractiveBucket(perMinute: 600_001), "perMinute", "0.6 to 600000"),
                (InteractiveBucket(burst: -1), "burst", "0"),
                (InteractiveBucket(burst: 100_001), "burst", "100000"),
            ]
            for (bucket, field, says) in cases {
                let refused = try await refusal { _ = try await tenant.limitInteractive(one, bucket) }
                #expect(refused.status == 422 && refused.field == field, "\(refused)")
                #expect(refused.detail.contains(says), "\(refused.detail)")
            }
            #expect(try await tenant.interactive(of: one) == .standard)
        }
    }
}
