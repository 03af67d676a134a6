import Access
import Client
import Domain
import TestSupport
import Testing
import Wire

@testable import API

@Suite("Limits that are finer than an organization's cap")
struct QueueLimitTests {
    @Test("limits are set as a whole, shown by who sees the organization, and removed by none")
    func whole() async throws {
        try await TestAPI.with { api in
            let one = api.one.organization
            let tenant = try await api.client(.organization(one))
            #expect(try await tenant.limits(of: one) == QueueLimits(limits: []))
            let limits = QueueLimits(
                limits: [
                    QueueLimit(scope: .job, running: 7),
                    QueueLimit(scope: .kind, key: "script", running: 2),
                    QueueLimit(scope: .site, key: api.one.site.description, running: 3),
                ], rate: QueueRate(perSecond: 2.5, burst: 10))
            #expect(try await tenant.limit(one, limits) == limits)
            #expect(try await tenant.limits(of: one) == limits)
            let partner = try await api.client(.partner(api.one.partner))
            #expect(try await partner.limits(of: one) == limits)
            let fewer = QueueLimits(limits: [QueueLimit(scope: .device, running: 1)])
            #expect(try await partner.limit(one, fewer) == fewer, "what was there before is gone")
            #expect(try await partner.limit(one, QueueLimits(limits: [])) == QueueLimits(limits: []))
        }
    }

    @Test("nobody sees or sets the limits of an organization of others")
    func foreign() async throws {
        try await TestAPI.with { api in
            let other = try await api.client(.organization(api.other.organization))
            let limits = QueueLimits(limits: [QueueLimit(scope: .job, running: 1)])
            for refused in [
                try await refusal { _ = try await other.limits(of: api.one.organization) },
                try await refusal { _ = try await other.limit(api.one.organization, limits) },
            ] {
                #expect(refused.status == 404)
            }
            let site = try await api.client(.site(api.one.site))
            let refused = try await refusal { _ = try await site.limit(api.one.organization, limits) }
            #expect(refused.status == 404 || refused.status == 403)
            let platform = try await api.client(.platform)
            #expect(try await platform.limits(of: api.one.organization).limits.isEmpty)
        }
    }

    @Test("bad input names field, value and limit, and changes nothing")
    func badInput() async throws {
        try await TestAPI.with { api in
            let one = api.one.organization
            let tenant = try await api.client(.organization(one))
            let cases: [(QueueLimits, field: String, says: String)] = [
                (QueueLimits(limits: [QueueLimit(scope: .job, running: 0)]), "limits[0].running", "1"),
                (
                    QueueLimits(limits: [QueueLimit(scope: .kind, key: "dance", running: 1)]),
                    "limits[0].key", "script"
                ),
                (
                    QueueLimits(limits: [QueueLimit(scope: .site, key: "x", running: 1)]), "limits[0].key",
                    "id"
                ),
                (
                    QueueLimits(limits: [QueueLimit(scope: .lane, key: "x/7", running: 1)]), "limits[0].key",
                    "slash"
                ),
                (
                    QueueLimits(limits: [
                        QueueLimit(scope: .job, running: 1), QueueLimit(scope: .job, running: 2),
                    ]), "limits[1]", "before"
                ),
                (
                    QueueLimits(limits: [], rate: QueueRate(perSecond: 0, burst: 1)), "rate.perSecond", "0.01"
                ),
                (QueueLimits(limits: [], rate: QueueRate(perSecond: 1, burst: 0)), "rate.burst", "1"),
            ]
            for (limits, field, says) in cases {
                let refused = try await refusal { _ = try await tenant.limit(one, limits) }
                #expect(refused.status == 422)
                #expect(refused.field == field, "\(refused)")
                #expect(refused.detail.contains(says), "\(refused.detail)")
            }
            #expect(try await tenant.limits(of: one).limits.isEmpty)
        }
    }
}
