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
    /// Marked queues that have room again unnoticed.
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
    /// The priorities of which PostgreSQL has more.
    package let markedPriorities: Set<Priority>
    /// Whether PostgreSQL has more.
    package var marked: Bool { !markedPriorities.isEmpty }
    /// The priorities that no claim serves now, by a pause of its own or of all.
    package let pausedPriorities: Set<Priority>
    /// Whether it is paused, in all priorities.
    package var paused: Bool { pausedPriorities.count == Priority.allCases.count }
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

    /// Stops claims of an organization or, with `nil`, of all, in one priority or in all: entries stay, and
    /// who has no others occupies no slot. Pauses add up: each ends by its own `resume`. False if it was
    /// there.
    @discardableResult
    package func pause(
        organization: OrganizationID?, priority: Priority? = nil, epoch: Epoch
    ) async throws -> Bool {
        let pause = Pause(organization: organization, priority: priority)
        return try await call("pause", epoch: epoch, pause.arguments + [1]).int == 1
    }

    /// Ends that very pause. False if there was none.
    @discardableResult
    package func resume(
        organization: OrganizationID?, priority: Priority? = nil, epoch: Epoch
    ) async throws -> Bool {
        let pause = Pause(organization: organization, priority: priority)
        let ended = try await call("pause", epoch: epoch, pause.arguments + [0]).int == 1
        if organization == nil { try await offerAll(epoch: epoch) }
        return ended
    }

    /// Brings every organization into service that may be, a page of queues at a time. What a death in
    /// between leaves out, the sweep brings.
    private func offerAll(epoch: Epoch) async throws {
        var cursor = "0"
        repeat {
            cursor = try await call("offer", epoch: epoch, [.string(cursor)]).text ?? "0"
        } while cursor != "0"
    }

    /// Sets how many interactive runs a second, and how many at once, of an organization go before its
    /// standard ones; `nil` for the default of either. Its bucket is full then.
    package func limitInteractive(
        organization: OrganizationID, rate: Double?, burst: Int?, epoch: Epoch
    ) async throws {
        let entitlement = Entitlement(
            organization: organization, interactiveRate: rate, interactiveBurst: burst)
        try entitlement.validate()
        _ = try await call("bucket", epoch: epoch, [.id(organization)] + entitlement.bucket)
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
                + organizations.flatMap { id in
                    [.string("o\(id)"), .string("r\(id)")]
                        + OrganizationQueue.all(of: id).map { .string("h\($0.name)") }
                })
        let caps = RedisCommand(
            "HMGET",
            arguments: [.string(keys.key("caps"))]
                + organizations.flatMap { [.string("\($0):cap"), .string("\($0):weight")] })
        let paused = RedisCommand(
            "SMISMEMBER",
            arguments: [.string(keys.key("paused"))]
                + ([nil] + organizations).flatMap { id in
                    ([nil] + Priority.allCases).map {
                        .string(Pause(organization: id, priority: $0).name)
                    }
                })
        let names: [RedisArgument] = organizations.flatMap(OrganizationQueue.all).map { .string($0.name) }
        let marks = RedisCommand("ZMSCORE", arguments: [.string(keys.key("marks"))] + names)
        let depth = RedisCommand("HMGET", arguments: [.string(keys.key("depth"))] + names)
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
            let width = 2 + Priority.allCases.count
            let slots = replies[0][width * at..<width * (at + 1)].map { $0.int ?? 0 }
            return Depth(
                organization: organizations[at],
                ready: Dictionary(uniqueKeysWithValues: ready.filter { $0.1 > 0 }),
                oldestMilliseconds: priorities.compactMap { Self.milliseconds(ofFirst: replies[5 + $0]) }
                    .min(),
                running: slots[1], leased: max(0, slots[0] - slots[1]),
                setAside: slots[2...].reduce(0, +),
                markedPriorities: Set(
                    zip(Priority.allCases, priorities).filter { replies[3][$1] != .null }.map(\.0)),
                pausedPriorities: Self.paused(replies[2], at),
                cap: replies[1][2 * at].int, weight: replies[1][2 * at + 1].double ?? 1)
        }
    }

    private static let depthsMax = 1_000

    /// The paused priorities of the organization at this place; the flags begin with those of all.
    private static func paused(_ flags: [RedisValue], _ place: Int) -> Set<Priority> {
        let width = 1 + Priority.allCases.count
        let all = flags[..<width].map { $0.int == 1 }
        let own = flags[width * (place + 1)..<width * (place + 2)].map { $0.int == 1 }
        return Set(
            Priority.allCases.enumerated().filter { index, _ in
                all[0] || own[0] || all[index + 1] || own[index + 1]
            }.map(\.element))
    }

    /// The time in the id of the first of these entries.
    private static func milliseconds(ofFirst entries: [RedisValue]) -> Int? {
        entries.first?.array?.first?.text.flatMap { Int($0.prefix { $0 != "-" }) }
    }
}
