package import Domain
import Redis

/// Where the queue has a run.
package enum RunPlace: Sendable, Hashable, CaseIterable {
    /// Nowhere.
    case absent
    /// In its queue, to be claimed.
    case ready
    /// Claimed.
    case leased
    /// Given back, not to be claimed before a time.
    case delayed
    /// Beside its queue, until its device's lane has room.
    case setAside
    /// Marked: it counts as running.
    case dispatched
}

extension Queue {
    /// Where the queue has each of these runs of an organization, in the same order. A view, not a snapshot;
    /// no more entries are asked for one by one than the windows of the organization's queues hold.
    package func places(
        of runs: [RunID], organization: OrganizationID
    ) async throws -> [RunPlace] {
        guard !runs.isEmpty else { return [] }
        let fields: [RedisArgument] = runs.map { .id($0) }
        let lives = try await send(RedisCommand("HMGET", arguments: [.string(keys.key("live"))] + fields))
            .elements().map { ($0.text ?? "").split(separator: " ") }
        var places = lives.map { $0.count == 1 ? RunPlace.dispatched : .absent }
        var asked: [(at: Int, command: RedisCommand)] = []
        for (at, words) in lives.enumerated() where words.count == 4 {
            guard let number = Int16(words[1]), let priority = Priority(rawValue: number) else { continue }
            let id = RedisArgument.string(String(words[2]))
            asked.append(
                (
                    at,
                    RedisCommand(
                        "XPENDING", .string(keys.queue(organization, priority)), "dispatch", id, id, 1)
                ))
        }
        guard !asked.isEmpty else { return places }
        for ((at, _), reply) in zip(asked, try await connection.send(asked.map(\.command))) {
            // A stream that is gone since has nothing pending.
            guard case .success(let value) = reply else { continue }
            places[at] = Self.place(pending: value.array?.first?.array?.dropFirst().first?.text)
        }
        return places
    }

    /// Unsettled runs of each of these devices' lanes, in the same order.
    package func laneLoads(of lanes: [(device: DeviceID, lane: Lane)]) async throws -> [Int] {
        guard !lanes.isEmpty else { return [] }
        let fields: [RedisArgument] = lanes.map {
            .string("d\(DeviceLane(device: $0.device, lane: $0.lane).text)")
        }
        return try await send(RedisCommand("HMGET", arguments: [.string(keys.key("slots"))] + fields))
            .elements().map { $0.int ?? 0 }
    }

    /// The place of an entry by the consumer that has it; one that nobody has was not read yet.
    private static func place(pending consumer: String?) -> RunPlace {
        switch consumer {
        case "leased": .leased
        case "delayed": .delayed
        case "held": .setAside
        default: .ready
        }
    }
}
