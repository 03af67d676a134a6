package import Domain
import Redis

/// How much of an organization's work was done in some time.
package struct WorkCount: Sendable, Hashable {
    /// Runs that were marked.
    package var marked: Int
    /// Runs that ended.
    package var ended: Int

    /// So much work.
    package init(marked: Int = 0, ended: Int = 0) {
        self.marked = marked
        self.ended = ended
    }

    /// Both added.
    package static func + (left: WorkCount, right: WorkCount) -> WorkCount {
        WorkCount(marked: left.marked + right.marked, ended: left.ended + right.ended)
    }
}

/// The work of the last minute.
package struct WorkRates: Sendable {
    /// Over how long it was counted: 60 to 75 s.
    package let seconds: Double
    /// What was counted for all organizations, and for each of those that were asked for.
    package let total: WorkCount
    package let byOrganization: [OrganizationID: WorkCount]

    /// So much work in so long.
    package init(seconds: Double, total: WorkCount, byOrganization: [OrganizationID: WorkCount]) {
        self.seconds = seconds
        self.total = total
        self.byOrganization = byOrganization
    }
}

extension Queue {
    /// The length of a period in which a source counts; a minute is read as the last four and the present
    /// one.
    package static let ratePeriodSeconds = 15
    private static let periodsRead = 5

    /// Says what a source has counted so far in a period: all organizations' counts as they stand, so that it
    /// may be said again. A period is a whole number of its length since 1970.
    ///
    /// One hash a source and period, `rate:<source>:<period>`: the organization's 16 bytes → `marked ended`,
    /// `total` → the same for all. Expires after two minutes, as does `reporters`, which has the sources.
    package func report(
        _ counts: [OrganizationID: WorkCount], source: String, period: Int
    ) async throws {
        var total = WorkCount()
        var hash = RedisCommand("HSET", .string(rateKey(source, period)))
        for (organization, count) in counts {
            hash.append(.bytes(organization.bytes))
            hash.append(.string("\(count.marked) \(count.ended)"))
            total = total + count
        }
        hash.append("total")
        hash.append(.string("\(total.marked) \(total.ended)"))
        let replies = try await connection.send([
            hash, RedisCommand("EXPIRE", .string(rateKey(source, period)), 120),
            RedisCommand("ZADD", .string(keys.key("reporters")), .int(period), .string(source)),
            RedisCommand(
                "ZREMRANGEBYSCORE", .string(keys.key("reporters")), "-inf",
                .int(period - Self.periodsRead)),
            RedisCommand("EXPIRE", .string(keys.key("reporters")), 120),
        ])
        for reply in replies { _ = try reply.get() }
    }

    /// What all sources have counted in the minute before an instant, in milliseconds since 1970.
    package func rates(
        of organizations: [OrganizationID], atMilliseconds now: Int
    ) async throws -> WorkRates {
        let period = now / 1_000 / Self.ratePeriodSeconds
        let begun = Double(now) / 1_000 - Double(period * Self.ratePeriodSeconds)
        let sources = try await send(
            RedisCommand(
                "ZRANGEBYSCORE", .string(keys.key("reporters")), .int(period - Self.periodsRead + 1), "+inf",
                "LIMIT", 0, .int(Self.sourcesMax))
        ).elements().compactMap(\.text)
        let fields: [RedisArgument] = ["total"] + organizations.map { .bytes($0.bytes) }
        let commands = sources.flatMap { source in
            (0..<Self.periodsRead).map {
                RedisCommand("HMGET", arguments: [.string(rateKey(source, period - $0))] + fields)
            }
        }
        var counts = [WorkCount](repeating: WorkCount(), count: fields.count)
        if !commands.isEmpty {
            for reply in try await connection.send(commands) {
                for (index, value) in try reply.get().elements().enumerated() {
                    let numbers = (value.text ?? "").split(separator: " ").compactMap { Int($0) }
                    guard numbers.count == 2 else { continue }
                    counts[index] = counts[index] + WorkCount(marked: numbers[0], ended: numbers[1])
                }
            }
        }
        return WorkRates(
            seconds: Double((Self.periodsRead - 1) * Self.ratePeriodSeconds) + begun, total: counts[0],
            byOrganization: Dictionary(zip(organizations, counts.dropFirst())) { first, _ in first })
    }

    // More processes than that are not read; they would not be missed in a share.
    private static let sourcesMax = 256

    private func rateKey(_ source: String, _ period: Int) -> String { keys.key("rate:\(source):\(period)") }
}
