import Access
import Domain
import Synchronization

/// How often callers may ask: requests a second on average, ten times as many at once after a quiet time.
package struct RateLimits: Sendable, Equatable {
    /// Of one key or person; absent for any number.
    package var principalPerSecond: Int?
    /// Of all keys and people of one partner, organization or site together; absent for any number.
    package var tenantPerSecond: Int?

    /// Limits.
    package init(principalPerSecond: Int?, tenantPerSecond: Int?) {
        self.principalPerSecond = principalPerSecond
        self.tenantPerSecond = tenantPerSecond
    }

    /// What holds unless settings say otherwise: more than one process answers, so that a caller that has
    /// gone wild is held back and nobody else.
    package static let standard = RateLimits(principalPerSecond: 10_000, tenantPerSecond: 20_000)
    /// Which numbers may be set; 0 stands for any number of requests.
    package static let allowed = 0...1_000_000
    /// For how many seconds of quiet a caller gets its requests at once.
    static let windowSeconds = 10
}

/// One caller's bucket, as the time at which it will be full again (GCRA, ITU-T I.371): pure.
struct RateBucket {
    /// What a request meets.
    enum Verdict: Equatable {
        /// It is let in; so many more would be now, and after so long the bucket is full.
        case admitted(remaining: Int, fullInNanoseconds: Int64)
        /// It is not; after so long one is.
        case refused(afterNanoseconds: Int64)
    }

    /// Nanoseconds on the limiter's clock; what lies in the past means a full bucket.
    private(set) var fullAt: Int64 = .min

    /// Takes one request of `perSecond`, if it is there.
    mutating func take(perSecond: Int, now: Int64) -> Verdict {
        let interval = 1_000_000_000 / Int64(perSecond)
        let window = interval * Int64(perSecond * RateLimits.windowSeconds)
        let next = max(fullAt, now) + interval
        guard next - now <= window else { return .refused(afterNanoseconds: next - now - window) }
        fullAt = next
        return .admitted(remaining: Int((window - (next - now)) / interval), fullInNanoseconds: next - now)
    }

    /// Whether forgetting it changes nothing.
    func isFull(at now: Int64) -> Bool { fullAt <= now }
}

/// Holds back callers that ask too often: two look-ups under a short lock a request, no more buckets than a
/// bound, and nothing that is shared between processes.
final class RateLimiter: Sendable {
    /// How many buckets a shard has at the most.
    static let bucketsMax = 8_192
    private static let shardCount = 16

    /// What a request gets, and what the caller is told of it.
    struct Answer: Equatable {
        /// Seconds after which it may ask again; absent if it is let in.
        var retryAfterSeconds: Int?
        /// The values of `RateLimit-Policy` and `RateLimit` (draft-ietf-httpapi-ratelimit-headers-10).
        var policy: String
        var state: String
    }

    private final class Shard: Sendable {
        let buckets = Mutex<[UniqueID: RateBucket]>([:])
    }

    private let limits: RateLimits
    private let shards = (0..<shardCount).map { _ in Shard() }
    private let begin = ContinuousClock.now
    private let policy: (principal: String, tenant: String, both: String)

    init(_ limits: RateLimits) {
        self.limits = limits
        func text(_ name: String, _ perSecond: Int?) -> String {
            guard let perSecond else { return "" }
            return "\"\(name)\";q=\(perSecond * RateLimits.windowSeconds);w=\(RateLimits.windowSeconds)"
        }
        let (principal, tenant) = (
            text("principal", limits.principalPerSecond), text("tenant", limits.tenantPerSecond)
        )
        policy = (principal, tenant, "\(principal), \(tenant)")
    }

    /// How many callers are remembered.
    var bucketCount: Int { shards.reduce(0) { $0 + $1.buckets.withLock { $0.count } } }

    /// Whether a caller may ask now; `nil` where nothing is limited. A refusal takes nothing from the tenant.
    func ask(principal: UniqueID, tenant: UniqueID?) -> Answer? {
        let (seconds, attoseconds) = (ContinuousClock.now - begin).components
        return ask(
            principal: principal, tenant: tenant, now: seconds * 1_000_000_000 + attoseconds / 1_000_000_000)
    }

    /// As above at a time of a clock of the caller's, in nanoseconds.
    func ask(principal: UniqueID, tenant: UniqueID?, now: Int64) -> Answer? {
        var answer = Answer(policy: "", state: "")
        if let perSecond = limits.principalPerSecond {
            answer.policy = policy.principal
            if count(principal, perSecond, "\"principal\";r=", now, &answer) { return answer }
        }
        if let perSecond = limits.tenantPerSecond, let tenant {
            answer.policy = answer.policy.isEmpty ? policy.tenant : policy.both
            if count(tenant, perSecond, "\"tenant\";r=", now, &answer) { return answer }
        }
        return answer.policy.isEmpty ? nil : answer
    }

    /// Counts a request in one bucket, and says whether that refuses it.
    private func count(
        _ id: UniqueID, _ perSecond: Int, _ name: String, _ now: Int64, _ answer: inout Answer
    ) -> Bool {
        if !answer.state.isEmpty { answer.state += ", " }
        answer.state += name
        switch take(id, perSecond, now) {
        case .admitted(let remaining, let nanoseconds):
            answer.state += String(remaining)
            answer.state += ";t="
            answer.state += String(Self.seconds(nanoseconds))
            return false
        case .refused(let nanoseconds):
            let after = Self.seconds(nanoseconds)
            answer.state += "0;t=\(after)"
            answer.retryAfterSeconds = after
            return true
        }
    }

    private func take(_ id: UniqueID, _ perSecond: Int, _ now: Int64) -> RateBucket.Verdict {
        // The last bits of an id are random.
        shards[Int(truncatingIfNeeded: id.low & 0xFF) % Self.shardCount].buckets.withLock { buckets in
            if buckets.count >= Self.bucketsMax, buckets[id] == nil {
                buckets = buckets.filter { !$0.value.isFull(at: now) }
                // All are in use: one of them begins anew, which lets its caller ask more often, not less.
                if buckets.count >= Self.bucketsMax, let any = buckets.first?.key { buckets[any] = nil }
            }
            return buckets[id, default: RateBucket()].take(perSecond: perSecond, now: now)
        }
    }

    private static func seconds(_ nanoseconds: Int64) -> Int {
        Int((nanoseconds + 999_999_999) / 1_000_000_000)
    }
}

extension Principal {
    /// Whose requests are counted together with those of this caller: of its partner, organization or site.
    /// The platform is no tenant, and whoever acts in several organizations is of none of them.
    var tenant: UniqueID? {
        switch widest {
        case nil, .platform, .organizations: nil
        case .partner(let id): id.value
        case .organization(let id): id.value
        case .site(let id): id.value
        }
    }
}
