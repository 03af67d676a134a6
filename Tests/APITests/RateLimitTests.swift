import Access
import Domain
import Engine
import Outbound
import Testing
import Trust
import Wire

@testable import API

@Suite("How often callers may ask")
struct RateLimitTests {
    private static let second: Int64 = 1_000_000_000

    @Test("a bucket lets ten seconds' worth in at once, then as many as flow in, and is full again after it")
    func bucket() {
        var bucket = RateBucket()
        for taken in 1...50 {
            guard case .admitted(let remaining, _) = bucket.take(perSecond: 5, now: 0) else {
                Issue.record("\(taken) of 50 was refused")
                return
            }
            #expect(remaining == 50 - taken)
        }
        #expect(bucket.take(perSecond: 5, now: 0) == .refused(afterNanoseconds: Self.second / 5))
        // Being refused takes nothing.
        #expect(
            bucket.take(perSecond: 5, now: Self.second / 5)
                == .admitted(
                    remaining: 0, fullInNanoseconds: 10 * Self.second))
        #expect(
            bucket.take(perSecond: 5, now: Self.second / 5)
                != .admitted(
                    remaining: 0, fullInNanoseconds: 10 * Self.second))
        #expect(!bucket.isFull(at: 10 * Self.second) && bucket.isFull(at: 11 * Self.second))
        #expect(
            bucket.take(perSecond: 5, now: 100 * Self.second)
                == .admitted(remaining: 49, fullInNanoseconds: Self.second / 5))
    }

    @Test("a caller and its tenant are limited each, and the answer says what is left of both")
    func both() {
        let limiter = RateLimiter(RateLimits(principalPerSecond: 1, tenantPerSecond: 2))
        let (one, other, tenant) = (UniqueID.v7(at: .now()), UniqueID.v7(at: .now()), UniqueID.v7(at: .now()))
        let first = limiter.ask(principal: one, tenant: tenant, now: 0)
        #expect(first?.retryAfterSeconds == nil)
        #expect(first?.policy == #""principal";q=10;w=10, "tenant";q=20;w=10"#)
        #expect(first?.state == #""principal";r=9;t=1, "tenant";r=19;t=1"#)
        for _ in 0..<9 {
            #expect(limiter.ask(principal: one, tenant: tenant, now: 0)?.retryAfterSeconds == nil)
        }
        #expect(limiter.ask(principal: one, tenant: tenant, now: 0)?.retryAfterSeconds == 1)
        // The tenant has ten left: the refusal took none of them.
        for _ in 0..<10 {
            #expect(limiter.ask(principal: other, tenant: tenant, now: 0)?.retryAfterSeconds == nil)
        }
        let third = limiter.ask(principal: UniqueID.v7(at: .now()), tenant: tenant, now: 0)
        #expect(third?.retryAfterSeconds == 1 && third?.state.contains(#""tenant";r=0;t=1"#) == true)
        #expect(
            limiter.ask(principal: UniqueID.v7(at: .now()), tenant: nil, now: 0)?.state.contains("tenant")
                == false)
        #expect(
            RateLimiter(RateLimits(principalPerSecond: nil, tenantPerSecond: nil))
                .ask(principal: one, tenant: tenant, now: 0) == nil)
    }

    @Test("there are no more buckets than the bound, however many callers there are")
    func bound() {
        let limiter = RateLimiter(RateLimits(principalPerSecond: 1, tenantPerSecond: nil))
        for count in 0..<200_000 {
            _ = limiter.ask(principal: UniqueID.v7(at: .now()), tenant: nil, now: Int64(count))
        }
        #expect(limiter.bucketCount <= RateLimiter.bucketsMax * 16)
        #expect(limiter.bucketCount > RateLimiter.bucketsMax)
        // Who was quiet is forgotten first.
        let caller = UniqueID.v7(at: .now())
        for _ in 0..<10 { _ = limiter.ask(principal: caller, tenant: nil, now: 1_000 * Self.second) }
        #expect(limiter.ask(principal: caller, tenant: nil, now: 1_000 * Self.second)?.retryAfterSeconds == 1)
    }

    @Test("who asks too often is refused with 429, Retry-After and RateLimit, and nobody else is")
    func refused() async throws {
        let limits = RateLimits(principalPerSecond: 1, tenantPerSecond: nil)
        try await TestAPI.with(configure: { $0.rateLimits = limits }) { api in
            var response = try await api.call("GET", "/v1/whoami", key: api.one.key)
            #expect(response.status == 200)
            #expect(response.header("ratelimit-policy") == #""principal";q=10;w=10"#)
            #expect(response.header("ratelimit")?.hasPrefix(#""principal";r=9;t="#) == true)
            for _ in 0..<100 where response.status == 200 {
                response = try await api.call("GET", "/v1/whoami", key: api.one.key)
            }
            let problem = try api.problem(response)
            #expect(problem.status == 429 && problem.code == "rateLimited")
            #expect(response.header("retry-after") == "\(problem.retryAfterSeconds ?? 0)")
            #expect(response.header("ratelimit")?.hasPrefix(#""principal";r=0;t="#) == true)
            #expect(try await api.call("GET", "/v1/whoami", key: api.other.key).status == 200)
            let open = try await api.call("GET", "/healthz", key: .some(nil))
            #expect(open.status == 200 && open.header("ratelimit") == nil)
        }
    }

    @Test("all keys of an organization are its tenant's; the platform's are no tenant's")
    func tenant() async throws {
        let limits = RateLimits(principalPerSecond: nil, tenantPerSecond: 1)
        try await TestAPI.with(configure: { $0.rateLimits = limits }) { api in
            let (_, second) = try await api.authenticator.createKey(
                name: "k", level: .organization(api.one.organization), permissions: Permission.all,
                expiresIn: .seconds(600), by: nil)
            var statuses: [Int] = []
            for count in 0..<100 where statuses.last != 429 {
                let key = count.isMultiple(of: 2) ? api.one.key : second
                statuses.append(try await api.call("GET", "/v1/whoami", key: key).status)
            }
            #expect(statuses.last == 429 && statuses.count > 10)
            #expect(try await api.call("GET", "/v1/whoami", key: api.other.key).status == 200)
            for _ in 0..<20 { #expect(try await api.call("GET", "/v1/whoami").status == 200) }
        }
    }
}
