package import Domain
import Redis

/// A run as it stands in a stream: ids and generation, never its content.
package struct Entry: Sendable, Hashable {
    /// The run.
    package let run: RunID
    /// Which entry into `queued` this is; a higher one replaces a lower one.
    package let generation: Int
    /// The device it is for, and which of its lanes.
    package let device: DeviceID
    package let lane: Lane

    /// The entry of a run.
    package init(run: RunID, generation: Int, device: DeviceID, lane: Lane = .script) {
        self.run = run
        self.generation = generation
        self.device = device
        self.lane = lane
    }
}

/// What became of an attempt to enqueue.
package enum Enqueued: Sendable, Hashable {
    /// All entries are in Redis; so many of them are new.
    case admitted(Int)
    /// The queue is marked, because it was already or because its window is full: refill brings the rest.
    case marked
}

/// A queue that has work in PostgreSQL.
package struct Marked: Sendable, Hashable {
    /// The queue.
    package let queue: OrganizationQueue
    /// Rises with each mark; `refill` names it.
    package let version: Int
    /// How many entries its window takes.
    package let room: Int
}

/// What a refill did.
package struct Refilled: Sendable, Hashable {
    /// How many entries were new.
    package let admitted: Int
    /// How many of the first entries are in Redis now, new or not.
    package let passed: Int
    /// Whether the queue is not marked any more.
    package let cleared: Bool
}

extension Queue {
    /// Puts entries into a queue: the fast path after a commit.
    ///
    /// Entries whose run is known with the same or a higher generation are left out. Throws `.full` at the
    /// memory limit.
    package func enqueue(
        _ entries: [Entry], in queue: OrganizationQueue, epoch: Epoch
    ) async throws -> Enqueued {
        var admitted = 0
        let replies = try await call("enqueue", epoch: epoch, slicing: entries) { slice in
            [.id(queue.organization), .priority(queue.priority)] + slice.flatMap(\.arguments)
        }
        var marked = false
        for reply in replies {
            let numbers = try reply.numbers(2)
            marked = marked || numbers[0] == 1
            admitted += numbers[1]
        }
        return marked ? .marked : .admitted(admitted)
    }

    /// Says that these queues have work in PostgreSQL that refill is to bring.
    package func mark(_ queues: [OrganizationQueue], epoch: Epoch) async throws {
        _ = try await call("mark", epoch: epoch, slicing: queues) { $0.map { .string($0.name) } }
    }

    /// Queues that wait for refill and have room, those refilled longest ago first, at most 128.
    ///
    /// Each is left to this caller for `hintMilliseconds`: a hint that keeps two workers from the same work,
    /// no lock.
    package func marked(limit: Int, hintMilliseconds: Int = 1_000, epoch: Epoch) async throws -> [Marked] {
        let reply = try await call("marked", epoch: epoch, [.int(limit), .int(hintMilliseconds)]).elements()
        return try stride(from: 0, to: reply.count - reply.count % 3, by: 3).map { at in
            Marked(
                queue: try reply[at].queue(), version: try reply[at + 1].number(),
                room: try reply[at + 2].number())
        }
    }

    /// Puts rows that were read from PostgreSQL into their queue, as far as its window reaches.
    ///
    /// The mark goes only if its version is still `version`, nothing `more` was there, and every entry is in
    /// Redis.
    package func refill(
        _ queue: OrganizationQueue, version: Int, entries: [Entry], more: Bool, epoch: Epoch
    ) async throws -> Refilled {
        var admitted = 0
        var passed = 0
        var cleared = false
        for start in stride(from: 0, to: max(entries.count, 1), by: Self.runsPerCall) {
            let slice = entries[start..<min(start + Self.runsPerCall, entries.count)]
            let goesOn = more || slice.endIndex < entries.count
            let head: [RedisArgument] = [
                .id(queue.organization), .priority(queue.priority), .int(version), .int(goesOn ? 1 : 0),
            ]
            let numbers = try await call("refill", epoch: epoch, head + slice.flatMap(\.arguments)).numbers(4)
            admitted += numbers[0]
            passed += numbers[3]
            cleared = numbers[1] == 1
            // Later rows must not overtake those that found no room.
            if numbers[2] == 0 { break }
        }
        return Refilled(admitted: admitted, passed: passed, cleared: cleared)
    }

    /// Takes runs that were not dispatched out of the queue; returns how many were there. A leased one is
    /// dropped when its lease ends; one that runs stays.
    @discardableResult
    package func cancel(_ runs: [(OrganizationID, RunID)], epoch: Epoch) async throws -> Int {
        try await call("cancel", epoch: epoch, slicing: runs) { $0.flatMap { [.id($0.0), .id($0.1)] } }
            .reduce(0) { try $0 + $1.number() }
    }
}

extension Entry {
    var arguments: [RedisArgument] {
        [.id(run), .int(generation), .place(DeviceLane(device: device, lane: lane))]
    }
}

extension OrganizationQueue {
    /// `organization:priority`, as marks and counters name it.
    var name: String { "\(organization):\(priority.rawValue)" }
}

extension RedisValue {
    /// The queue that is named here.
    func queue() throws -> OrganizationQueue {
        let words = text?.split(separator: ":") ?? []
        guard words.count == 2, let organization = OrganizationID(words[0]),
            let priority = Int16(words[1]).flatMap(Priority.init(rawValue:))
        else { throw QueueError.refused("a function answered no queue") }
        return OrganizationQueue(organization, priority)
    }
}
