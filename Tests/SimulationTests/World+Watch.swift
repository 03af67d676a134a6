import Domain
import Redis

@testable import Streams

/// What is looked at in each claim besides caps and lanes.
extension World {
    /// Whether a member of `paused` covers a queue.
    static func isPaused(_ queue: OrganizationQueue, _ paused: Set<String>) -> Bool {
        guard !paused.isEmpty else { return false }
        let own = "\(queue.organization)"
        return paused.contains("*") || paused.contains("*:\(queue.priority.rawValue)")
            || paused.contains(own) || paused.contains(queue.name)
    }

    /// Nothing is claimed that is paused.
    func judgePauses(_ items: [Claim], _ paused: Set<String>, _ depth: [String: String]) {
        guard !paused.isEmpty else { return }
        for claim in items
        where Self.isPaused(OrganizationQueue(claim.organization, claim.priority), paused) {
            fail("a run of a paused queue was claimed: \(claim.run.short)")
        }
        for queue in queues where depth[queue.name].flatMap({ Int($0) }) ?? 0 > 0 {
            if paused.contains("*") { reach(.everythingPaused) }
            guard !items.isEmpty else { continue }
            if paused.contains("*:\(queue.priority.rawValue)") { reach(.priorityPaused) }
            if paused.contains(queue.name) { reach(.queuePaused) }
        }
    }

    /// Before standard runs there are only as many interactive ones as the bucket has; of the others none
    /// goes before an older standard one. Counters are those after the claim.
    func judgeBuckets(
        _ items: [Claim], _ caps: [String: String], _ slots: [String: String], _ paused: Set<String>,
        _ depth: [String: String]
    ) async throws {
        for organization in organizations {
            let own = items.filter { $0.organization == organization }
            let interactive = own.filter { $0.priority == .interactive }.map(\.run)
            let standard = own.filter { $0.priority == .standard }.map(\.run)
            let names = Priority.allCases.map { OrganizationQueue(organization, $0) }
            let reading = try await reading(names[0])
            // Also where it has no bucket yet: what was read comes back before all.
            defer { readBefore.formUnion(reading.read) }
            guard !interactive.isEmpty, let rate = caps["\(organization):rate"].flatMap({ Double($0) }),
                let burst = caps["\(organization):burst"].flatMap({ Int($0) })
            else { continue }
            let left = names.map { depth[$0.name].flatMap { Int($0) } ?? 0 }
            let held = names.map { slots["h\($0.name)"].flatMap { Int($0) } ?? 0 }
            // Who has no choice takes nothing from the bucket.
            guard standard.count + left[1] > 0, left.reduce(0, +) > 0,
                !names[...1].contains(where: { Self.isPaused($0, paused) }),
                held[0] <= VirtualLibrary.windowLeast, held[1] <= VirtualLibrary.windowLeast
            else { continue }
            let limit = RunRate(perSecond: rate, burst: burst)
            var bucket = buckets[organization] ?? Bucket(limit, at: redisNow)
            if bucket.rate != limit { bucket = Bucket(limit, at: redisNow) }
            // What may not have been there is not taken: who goes as the oldest takes none.
            let certain = bucket.certainTokens(at: redisNow)
            let tokens = max(0, bucket.tokens(at: redisNow))
            bucket.take(min(certain, interactive.count))
            buckets[organization] = bucket
            guard interactive.count > tokens else { continue }
            reach(.bucketEmpty)
            guard left[1] > 0, held[0] == 0, held[1] == 0,
                let next = try await self.reading(names[1]).next
            else { continue }
            let youngest = standard.reduce(next) { max($0, $1) }
            for run in interactive.dropFirst(tokens) where run > youngest && !readBefore.contains(run) {
                fail("\(run.short), beyond the bucket, overtook \(next.short), which is older")
            }
        }
    }

    /// The runs whose entries were read from a queue and are there still, and the one that is read next.
    private func reading(_ name: OrganizationQueue) async throws -> (read: [RunID], next: RunID?) {
        let key = queue.keys.queue(name.organization, name.priority)
        guard try await connection.send(RedisCommand("EXISTS", .string(key))).int == 1 else {
            return ([], nil)
        }
        let groups = try await connection.send(RedisCommand("XINFO", "GROUPS", .string(key)))
        let fields = groups.array?.first?.array ?? []
        guard let at = fields.firstIndex(where: { $0.text == "last-delivered-id" }), at + 1 < fields.count,
            let last = fields[at + 1].text
        else { return ([], nil) }
        let ranges = try await connection.send([
            RedisCommand("XRANGE", .string(key), "-", .string(last)),
            RedisCommand("XRANGE", .string(key), .string("(\(last)"), "+", "COUNT", 1),
        ]).map { try $0.get().array ?? [] }
        let runs = ranges.map { entries in
            entries.compactMap { entry in
                entry.array?.last?.array?.last?.text.flatMap { RunID($0.prefix { $0 != " " }) }
            }
        }
        return (runs[0], runs[1].first)
    }
}
