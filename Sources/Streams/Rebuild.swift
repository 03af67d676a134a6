package import Domain
import Logging
import Redis

/// What an organization is entitled to, as PostgreSQL keeps it.
package struct Entitlement: Sendable, Hashable {
    /// The organization.
    package let organization: OrganizationID
    /// Its share against others.
    package let weight: Double
    /// The most runs that may be leased or running; `nil` for no limit.
    package let cap: Int?
    /// Whether it is paused.
    package let paused: Bool
    /// How many interactive runs a second, and how many at once, go before its standard ones; `nil` for
    /// the default. The others are served as standard ones are.
    package let interactiveRate: Double?
    package let interactiveBurst: Int?

    /// What differs from the defaults.
    package init(
        organization: OrganizationID, weight: Double = 1, cap: Int? = nil, paused: Bool = false,
        interactiveRate: Double? = nil, interactiveBurst: Int? = nil
    ) {
        self.organization = organization
        self.weight = weight
        self.cap = cap
        self.paused = paused
        self.interactiveRate = interactiveRate
        self.interactiveBurst = interactiveBurst
    }

    func validate() throws {
        guard weight >= 0.001, weight <= 1_000 else {
            throw QueueError.refused("a weight is from 0.001 to 1,000")
        }
        guard cap ?? 0 >= 0 else { throw QueueError.refused("a cap is not negative") }
        guard (0.01...10_000).contains(interactiveRate ?? 1) else {
            throw QueueError.refused("a rate of interactive runs is from 0.01 to 10,000 a second")
        }
        guard (0...100_000).contains(interactiveBurst ?? 0) else {
            throw QueueError.refused("a burst of interactive runs is from 0 to 100,000")
        }
    }

    var arguments: [RedisArgument] {
        [.id(organization), weight == 1 ? "" : .double(weight), cap.map { .int($0) } ?? ""] + bucket
    }

    /// Rate and burst.
    var bucket: [RedisArgument] {
        [interactiveRate.map { .double($0) } ?? "", interactiveBurst.map { .int($0) } ?? ""]
    }
}

/// What no claim serves: an organization or all, in one priority or in all.
package struct Pause: Sendable, Hashable {
    /// Whose runs wait; `nil` for everybody's.
    package let organization: OrganizationID?
    /// Which of them; `nil` for all.
    package let priority: Priority?

    /// A pause.
    package init(organization: OrganizationID?, priority: Priority? = nil) {
        self.organization = organization
        self.priority = priority
    }

    /// Its two words in a call.
    var arguments: [RedisArgument] {
        [organization.map { .id($0) } ?? "*", priority.map { .priority($0) } ?? ""]
    }

    /// Its name as `paused` has it.
    var name: String {
        (organization?.description ?? "*") + (priority.map { ":\($0.rawValue)" } ?? "")
    }
}

extension Queue {
    /// Begins a new data set: closes the gate, removes the partition's keys, loads entitlements, pauses and
    /// running runs, opens the gate last. The caller keeps others from doing the same, and marks every
    /// organization with backlog after it.
    ///
    /// It may be repeated from the start at any time. One that was overtaken by another throws `.staleEpoch`,
    /// be it that Redis knows of the other or that `isCurrent`, which is asked at each step, says so; one
    /// that dies leaves the gate closed, which `epoch()` tells.
    package func rebuild(
        epoch new: Epoch, entitlements: [Entitlement], pauses: [Pause] = [], running: [Membership],
        limited: [OrganizationID: [LabelledRun]] = [:],
        isCurrent: () async throws -> Bool = { true }
    ) async throws {
        func check() async throws {
            guard try await isCurrent() else { throw QueueError.staleEpoch(current: nil) }
        }
        for entitlement in entitlements { try entitlement.validate() }
        try await check()
        _ = try await call("rebuild", epoch: new, [])
        let removed = try await clearAll(epoch: new)
        _ = try await call("configure", epoch: new, slicing: entitlements) { $0.flatMap(\.arguments) }
        let paused = entitlements.filter(\.paused).map { Pause(organization: $0.organization) } + pauses
        _ = try await call("halt", epoch: new, slicing: paused) { $0.map { .string($0.name) } }
        for start in stride(from: 0, to: running.count, by: Self.runsPerStep) {
            try await check()
            let step = Array(running[start..<min(start + Self.runsPerStep, running.count)])
            _ = try await call("load", epoch: new, slicing: step) { $0.flatMap(\.arguments) }
        }
        for (organization, runs) in limited {
            try await check()
            _ = try await call("relimit", epoch: new, [.id(organization)])
            _ = try await call("relimit", epoch: new, slicing: runs) { slice in
                [.id(organization)] + slice.flatMap(\.arguments)
            }
        }
        try await check()
        _ = try await call("open", epoch: new, [])
        logger.notice(
            "queue rebuilt",
            metadata: ["epoch": "\(new)", "keys.removed": "\(removed)", "runs.loaded": "\(running.count)"])
    }

    /// Removes the partition's keys and leaves the gate closed: nobody has it any more.
    package func abandon() async throws {
        let none = Epoch.fresh()
        _ = try await call("rebuild", epoch: none, [])
        try await clearAll(epoch: none)
        _ = try await send(RedisCommand("DEL", .string(keys.key("rebuild"))))
    }

    private static let runsPerStep = 4_096

    @discardableResult
    private func clearAll(epoch: Epoch) async throws -> Int {
        var removed = 0
        var cursor = "0"
        repeat {
            let scan = RedisCommand("SCAN", .string(cursor), "MATCH", .string(keys.pattern), "COUNT", 1_000)
                .near(keys.key("epoch"))
            let reply = try await send(scan).elements()
            cursor = reply.first?.text ?? "0"
            removed += try await clear(reply.last?.array?.compactMap(\.text) ?? [], epoch: epoch)
        } while cursor != "0"
        return removed
    }

    private func clear(_ names: [String], epoch: Epoch) async throws -> Int {
        guard !names.isEmpty else { return 0 }
        var command = RedisCommand("FCALL", .string(keys.function("clear")), .int(names.count + 1))
        command.append(contentsOf: ([keys.key("epoch")] + names + [epoch.id]).lazy.map { .string($0) })
        return try await send(command).number()
    }
}
