package import Domain
import Redis

extension Queue {
    /// When an organization's rate lets the next run in, which may be in the past; `nil` if none came in
    /// since its bucket was full.
    package func nextStart(of organization: OrganizationID, _ rate: RunRate) async throws -> Instant? {
        // The score is when the bucket will be full again: one run is let in as many intervals before.
        let fullAt = try await send(RedisCommand("ZSCORE", .string(keys.key("rates")), .id(organization)))
        guard let milliseconds = fullAt.double else { return nil }
        let next = milliseconds - Double(rate.burst - 1) * 1_000 / rate.perSecond
        return Instant(microseconds: Int64(next * 1_000))
    }
}
