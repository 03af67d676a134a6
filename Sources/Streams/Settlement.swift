package import Domain
import Redis

/// A run that has ended, or that is not to count as running.
package struct Settled: Sendable, Hashable {
    /// The tenant.
    package let organization: OrganizationID
    /// The run.
    package let run: RunID
    /// The generation that was dispatched.
    package let generation: Int
    /// The device it was for, and which of its lanes.
    package let device: DeviceID
    package let lane: Lane

    /// The end of a dispatched run.
    package init(
        organization: OrganizationID, run: RunID, generation: Int, device: DeviceID, lane: Lane = .script
    ) {
        self.organization = organization
        self.run = run
        self.generation = generation
        self.device = device
        self.lane = lane
    }

    var arguments: [RedisArgument] {
        [.id(organization), .id(run), .int(generation), .place(DeviceLane(device: device, lane: lane))]
    }
}

/// A member of the set of running runs.
package struct Membership: Sendable, Hashable {
    /// The run, as its settlement will name it.
    package let run: Settled
    /// When PostgreSQL gives it up, in milliseconds since 1970.
    package let deadlineMilliseconds: Int

    /// A run that is dispatched or running.
    package init(
        organization: OrganizationID, run: RunID, generation: Int, device: DeviceID, lane: Lane = .script,
        deadlineMilliseconds: Int
    ) {
        self.run = Settled(
            organization: organization, run: run, generation: generation, device: device, lane: lane)
        self.deadlineMilliseconds = deadlineMilliseconds
    }

    var arguments: [RedisArgument] { run.arguments + [.int(deadlineMilliseconds)] }

    /// Reads "organization run generation device" and a score.
    init(member: RedisValue, deadline: RedisValue) throws {
        let words = member.text?.split(separator: " ") ?? []
        guard words.count == 4, let organization = OrganizationID(words[0]), let run = RunID(words[1]),
            let generation = Int(words[2]), let place = DeviceLane(words[3]), let deadline = deadline.double
        else { throw QueueError.refused("a function answered no membership") }
        self.init(
            organization: organization, run: run, generation: generation, device: place.device,
            lane: place.lane,
            deadlineMilliseconds: Int(deadline))
    }
}

/// One page of the running runs.
package struct MembershipPage: Sendable, Hashable {
    /// The members; a member that moves during the scan may come twice.
    package let items: [Membership]
    /// Where to go on; `nil` after the last page.
    package let next: String?
}

extension Queue {
    /// Ends runs: they leave the running ones, and what their device or cap held back may go on. Returns how
    /// many were members; calling it again changes nothing.
    ///
    /// A result that overtakes the acknowledgement of its dispatch is remembered: the run does not start
    /// counting then.
    @discardableResult
    package func settle(_ runs: [Settled], epoch: Epoch) async throws -> Int {
        try await call("settle", epoch: epoch, slicing: runs) { $0.flatMap(\.arguments) }
            .reduce(0) { try $0 + $1.number() }
    }

    /// A page of the running runs, to compare with PostgreSQL. Begins with `nil`.
    package func membership(after cursor: String? = nil, epoch: Epoch) async throws -> MembershipPage {
        let reply = try await call("membership", epoch: epoch, [.string(cursor ?? "0")]).elements()
        let items = try stride(from: 1, to: reply.count, by: 2).map { at in
            try Membership(member: reply[at], deadline: reply[at + 1])
        }
        let next = reply.first?.text
        return MembershipPage(items: items, next: next == "0" ? nil : next)
    }

    /// How many runs of an organization are counted as running.
    package func runningCount(_ organization: OrganizationID) async throws -> Int {
        try await send(RedisCommand("HGET", .string(keys.key("slots")), .string("r\(organization)"))).int ?? 0
    }

    /// Brings the running runs in line with PostgreSQL; returns how many were added and removed.
    @discardableResult
    package func correct(
        missing: [Membership], extra: [Settled], epoch: Epoch
    ) async throws -> (added: Int, removed: Int) {
        let added = try await call("correct", epoch: epoch, slicing: missing) { slice in
            [.int(slice.count * 5)] + slice.flatMap(\.arguments)
        }
        let removed = try await call("correct", epoch: epoch, slicing: extra) { slice in
            [0] + slice.flatMap(\.arguments)
        }
        let totals = try (added + removed).map { try $0.numbers(2) }
        return (totals.reduce(0) { $0 + $1[0] }, totals.reduce(0) { $0 + $1[1] })
    }
}
