package import Domain
import Redis

/// A run that came without `bring`, with its lanes.
package struct LabelledRun: Sendable, Hashable {
    /// The run.
    package let run: RunID
    /// A lane of each scope, in the order of the scopes.
    package let lanes: [RunLane]

    /// A run and its lanes.
    package init(run: RunID, lanes: [RunLane]) {
        self.run = run
        self.lanes = lanes
    }

    var arguments: [RedisArgument] { [.id(run), .lanes(lanes)] }
}

/// An entry of a limited organization.
package struct LimitedEntry: Sendable, Hashable {
    /// The entry.
    package let entry: Entry
    /// A lane of each scope, in the order of the scopes.
    package let lanes: [RunLane]
    /// The most runs of each lane; `nil` for no limit.
    package let limits: [Int?]

    /// An entry with its lanes and their limits.
    package init(entry: Entry, lanes: [RunLane], limits: [Int?]) {
        self.entry = entry
        self.lanes = lanes
        self.limits = limits
    }

    var arguments: [RedisArgument] {
        let words = limits.map { $0.map(String.init) ?? "-" }.joined(separator: " ")
        return entry.arguments + [.lanes(lanes), .string(words)]
    }
}

/// How many runs of an organization may be admitted in a time.
package struct RunRate: Sendable, Hashable {
    /// Runs a second in the long run.
    package let perSecond: Double
    /// Runs at once.
    package let burst: Int

    /// A rate.
    package init(perSecond: Double, burst: Int) {
        self.perSecond = perSecond
        self.burst = burst
    }
}

/// What `bring` did.
package struct Brought: Sendable, Hashable {
    /// How many entries were new.
    package let admitted: Int
    /// Whether the queue is not marked any more.
    package let cleared: Bool
    /// For each of the first entries, the scope whose lane has no place for it; `nil` where it is in Redis.
    /// The entries behind these found no room.
    package let blocked: [LimitScope?]
}

extension Queue {
    /// Says whether an organization's runs are admitted by `bring` alone, which knows their lanes.
    package func limit(organization: OrganizationID, isLimited: Bool, epoch: Epoch) async throws {
        _ = try await call("limit", epoch: epoch, [.id(organization), isLimited ? 1 : 0])
    }

    /// The organizations that are limited here.
    package func limited() async throws -> Set<OrganizationID> {
        let members = try await send(RedisCommand("SMEMBERS", .string(keys.key("limited")))).elements()
        return Set(members.compactMap { $0.text.flatMap { OrganizationID($0) } })
    }

    /// Gives runs that are in Redis their places in their lanes, whether there is room or not.
    package func label(_ runs: [LabelledRun], organization: OrganizationID, epoch: Epoch) async throws {
        _ = try await call("label", epoch: epoch, slicing: runs) { slice in
            [.id(organization)] + slice.flatMap(\.arguments)
        }
    }

    /// The runs of an organization that wait in its streams or are leased.
    package func waiting(organization: OrganizationID) async throws -> [RunID] {
        var runs: [RunID] = []
        for queue in OrganizationQueue.all(of: organization) {
            let command = RedisCommand("XRANGE", .string(keys.key("queue:\(queue.name)")), "-", "+")
            for entry in try await send(command).elements() {
                let work = entry.array?.last?.array?.last?.text
                if let run = work.flatMap({ RunID($0.prefix { $0 != " " }) }) { runs.append(run) }
            }
        }
        return runs
    }

    /// How many runs have a place in each of these lanes.
    package func taken(_ lanes: [RunLane], organization: OrganizationID) async throws -> [Int] {
        guard !lanes.isEmpty else { return [] }
        let fields: [RedisArgument] = lanes.map { .string("\(organization) \($0.name)") }
        return try await send(RedisCommand("HMGET", arguments: [.string(keys.key("taken"))] + fields))
            .elements().map { $0.int ?? 0 }
    }

    /// Puts rows of a limited organization into their queue, as far as its lanes, rate and window reach.
    ///
    /// A row whose lane is full is passed over, and the queue is marked when a place in that lane becomes
    /// free. The mark goes if its version is still `version` and nothing `more` is to be looked at.
    package func bring(
        _ queue: OrganizationQueue, version: Int, entries: [LimitedEntry], more: Bool, rate: RunRate?,
        epoch: Epoch
    ) async throws -> Brought {
        var (admitted, cleared, blocked) = (0, false, [LimitScope?]())
        for start in stride(from: 0, to: max(entries.count, 1), by: Self.runsPerCall) {
            let slice = entries[start..<min(start + Self.runsPerCall, entries.count)]
            let goesOn = more || slice.endIndex < entries.count
            let head: [RedisArgument] = [
                .id(queue.organization), .priority(queue.priority), .int(version), .int(goesOn ? 1 : 0),
                rate.map { .double(1_000 / $0.perSecond) } ?? "", rate.map { .int($0.burst) } ?? "",
            ]
            let reply = try await call("bring", epoch: epoch, head + slice.flatMap(\.arguments)).elements()
            let numbers = try reply.map { try $0.number() }
            guard numbers.count >= 3 else { throw QueueError.refused("a function answered too little") }
            admitted += numbers[0]
            cleared = numbers[1] == 1
            blocked += numbers[3...].map { $0 == 0 ? nil : LimitScope.allCases[$0 - 1] }
            // Later rows must not overtake those that found no room.
            if numbers[2] < slice.count { break }
        }
        return Brought(admitted: admitted, cleared: cleared, blocked: blocked)
    }
}

extension RedisArgument {
    fileprivate static func lanes(_ lanes: [RunLane]) -> RedisArgument {
        .string(lanes.map(\.name).joined(separator: " "))
    }
}
