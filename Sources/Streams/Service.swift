package import Domain
import Redis

/// What a sweep found.
package struct SweepReport: Sendable, Hashable {
    /// Organizations with entries that nobody would have served.
    package let offered: Int
    /// Delayed entries whose time had come.
    package let moved: Int
    /// Counters of a queue that its stream did not confirm.
    package let corrected: Int
    /// Marked organizations that have room again unnoticed.
    package let unparked: Int
}

/// How one organization stands.
package struct Depth: Sendable, Hashable {
    /// The organization.
    package let organization: OrganizationID
    /// Entries that may be claimed, by priority; only those that are not zero.
    package let ready: [Priority: Int]
    /// When the oldest entry came into Redis, in milliseconds since 1970; `nil` if there is none.
    package let oldestMilliseconds: Int?
    /// Runs that are dispatched and not settled.
    package let running: Int
    /// Runs that are leased by a dispatcher now.
    package let leased: Int
    /// Entries that wait for a device which has as many runs as it may.
    package let setAside: Int
    /// Whether PostgreSQL has more.
    package let marked: Bool
    /// Whether it is paused.
    package let paused: Bool
    /// The most runs that may be leased or running; `nil` for no limit.
    package let cap: Int?
    /// Its share against others.
    package let weight: Double
}

extension Queue {
    /// Puts right what a crash or a fault has left: looks at up to `limit` queues and goes on at the next
    /// call, moves delayed entries, and makes sure of the bell. To be called each second.
    @discardableResult
    package func sweep(limit: Int = 128, epoch: Epoch) async throws -> SweepReport {
        let numbers = try await call("sweep", epoch: epoch, [.int(limit)]).numbers(4)
        return SweepReport(
            offered: numbers[0], moved: numbers[1], corrected: numbers[2], unparked: numbers[3])
    }

    /// Stops claims of an organization. Its entries stay and it occupies no slot.
    package func pause(organization: OrganizationID, epoch: Epoch) async throws {
        _ = try await call("pause", epoch: epoch, [.id(organization), 1])
    }

    /// Lets an organization go on.
    package func resume(organization: OrganizationID, epoch: Epoch) async throws {
        _ = try await call("pause", epoch: epoch, [.id(organization), 0])
    }

    /// Sets an organization's share; 1 is the default.
    package func weigh(organization: OrganizationID, weight: Double, epoch: Epoch) async throws {
        try Entitlement(organization: organization, weight: weight).validate()
        _ = try await call("weigh", epoch: epoch, [.id(organization), .double(weight)])
    }

    /// Limits how many runs of an organization may be leased or running; `nil` for no limit.
    package func cap(organization: OrganizationID, limit: Int?, epoch: Epoch) async throws {
        try Entitlement(organization: organization, cap: limit).validate()
        _ = try await call("cap", epoch: epoch, [.id(organization), limit.map { .int($0) } ?? ""])
    }

    /// How up to 1,000 organizations stand that have entries, running runs or a mark. A view, not a snapshot.
    package func depths() async throws -> [Depth] {
        var organizations: [OrganizationID] = []
        var seen: Set<OrganizationID> = []
        for (command, key, pattern) in [
            ("HSCAN", "depth", "*"), ("HSCAN", "slots", "o*"), ("ZSCAN", "marks", "*"),
        ] {
            var cursor = "0"
            repeat {
                let reply = try await send(
                    RedisCommand(
                        command, .string(keys.key(key)), .string(cursor), "MATCH", .string(pattern), "COUNT",
                        500)
                ).elements()
                cursor = reply.first?.text ?? "0"
                let fields = reply.last?.array ?? []
                for at in stride(from: 0, to: fields.count, by: 2) {
                    let text = fields[at].text ?? ""
                    let name = pattern == "o*" ? text.dropFirst() : text.prefix { $0 != ":" }
                    if let id = OrganizationID(name), seen.insert(id).inserted { organizations.append(id) }
                }
            } while cursor != "0" && organizations.count < Self.depthsMax
        }
        return try await depths(of: Array(organizations.prefix(Self.depthsMax)))
    }

    /// How these organizations stand.
    package func depths(of organizations: [OrganizationID]) async throws -> [Depth] {
        guard !organizations.isEmpty else { return [] }
        let slots = RedisCommand(
            "HMGET",
            arguments: [.string(keys.key("slots"))]
                + organizations.flatMap { [.string("o\($0)"), .string("r\($0)"), .string("h\($0)")] })
        let caps = RedisCommand(
            "HMGET",
            arguments: [.string(keys.key("caps"))]
                + organizations.flatMap { [.string("\($0):cap"), .string("\($0):weight")] })
        let paused = RedisCommand(
            "SMISMEMBER", arguments: [.string(keys.key("paused"))] + organizations.map { .id($0) })
        let marks = RedisCommand(
            "ZMSCORE", arguments: [.string(keys.key("marks"))] + organizations.map { .id($0) })
        let depth = RedisCommand(
            "HMGET",
            arguments: [.string(keys.key("depth"))]
                + organizations.flatMap { id in Priority.allCases.map { .string("\(id):\($0.rawValue)") } })
        let oldest = organizations.flatMap { id in
            Priority.allCases.map {
                RedisCommand("XRANGE", .string(keys.queue(id, $0)), "-", "+", "COUNT", 1)
            }
        }
        let replies = try await connection.send([slots, caps, paused, marks, depth] + oldest).map {
            try $0.get().elements()
        }
        return organizations.indices.map { at in
            let priorities = Priority.allCases.indices.map { Priority.allCases.count * at + $0 }
            let ready = zip(Priority.allCases, priorities).map { ($0, replies[4][$1].int ?? 0) }
            let slots = replies[0][3 * at..<3 * at + 3].map { $0.int ?? 0 }
            return Depth(
                organization: organizations[at],
                ready: Dictionary(uniqueKeysWithValues: ready.filter { $0.1 > 0 }),
                oldestMilliseconds: priorities.compactMap { Self.milliseconds(ofFirst: replies[5 + $0]) }
                    .min(),
                running: slots[1], leased: max(0, slots[0] - slots[1]), setAside: slots[2],
                marked: replies[3][at] != .null, paused: replies[2][at].int == 1,
                cap: replies[1][2 * at].int, weight: replies[1][2 * at + 1].double ?? 1)
        }
    }

    private static let depthsMax = 1_000

    /// The time in the id of the first of these entries.
    private static func milliseconds(ofFirst entries: [RedisValue]) -> Int? {
        entries.first?.array?.first?.text.flatMap { Int($0.prefix { $0 != "-" }) }
    }
}
