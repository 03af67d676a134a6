package import Domain
import Redis

/// A run that one owner has leased from the queue.
package struct Claim: Sendable, Hashable, Identifiable {
    /// The lease; it names all that its end needs.
    package let id: String
    /// The tenant.
    package let organization: OrganizationID
    /// Which of its queues the entry is in.
    package let priority: Priority
    /// The run.
    package let run: RunID
    /// The generation of its entry; the mark requires it.
    package let generation: Int
    /// The device it is for, and which of its lanes.
    package let device: DeviceID
    package let lane: Lane
    /// How often an owner of it has crashed.
    package let crashes: Int
    /// Who held the device at the time of the claim; `nil` if nobody did. The gateway may be dead meanwhile.
    package let presence: Presence?

    /// Reads a lease: owner, organization, priority, entry, run, generation, device and a number that no
    /// other claim has, with a space between them.
    init(lease: RedisValue, crashes: RedisValue, presence: RedisValue) throws {
        guard case .string(let bytes) = lease, var words = LeaseWords(bytes),
            let organization = words.id() as OrganizationID?,
            let priority = words.number().flatMap(Int16.init(exactly:)).flatMap(Priority.init(rawValue:)),
            words.skip(), let run = words.id() as RunID?, let generation = words.number(),
            let device = words.id(until: UInt8(ascii: "/")) as DeviceID?,
            let lane = words.number().flatMap(Int16.init(exactly:)).flatMap(Lane.init(rawValue:)),
            words.isLast, let id = lease.text
        else { throw QueueError.refused("a function answered no lease") }
        self.id = id
        self.organization = organization
        self.priority = priority
        self.run = run
        self.generation = generation
        self.device = device
        self.lane = lane
        self.crashes = try crashes.number()
        self.presence = Presence(presence)
    }
}

/// Reads the words of a lease from its bytes: a claim brings up to 128.
private struct LeaseWords {
    private let bytes: [UInt8]
    private var start = 0

    /// Begins behind the owner; `nil` if there is nothing.
    init?(_ bytes: [UInt8]) {
        self.bytes = bytes
        guard skip() else { return nil }
    }

    /// The next word, without what ends it.
    private mutating func next(until end: UInt8 = UInt8(ascii: " ")) -> Range<Int>? {
        var at = start
        while at < bytes.count, bytes[at] != end { at += 1 }
        guard at > start, at < bytes.count else { return nil }
        defer { start = at + 1 }
        return start..<at
    }

    mutating func skip() -> Bool { next() != nil }

    mutating func id<Subject>(until end: UInt8 = UInt8(ascii: " ")) -> ID<Subject>? {
        guard let word = next(until: end) else { return nil }
        return ID(text: bytes.span.extracting(word))
    }

    /// A word of at most 18 digits.
    mutating func number() -> Int? {
        guard let word = next(), word.count <= 18 else { return nil }
        var number = 0
        for at in word {
            guard (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(bytes[at]) else { return nil }
            number = number * 10 + Int(bytes[at] - UInt8(ascii: "0"))
        }
        return number
    }

    /// Whether one word is left, and nothing behind it.
    var isLast: Bool {
        guard start < bytes.count else { return false }
        for at in start..<bytes.count where bytes[at] == UInt8(ascii: " ") { return false }
        return true
    }
}

/// What a claim brought.
package struct Claims: Sendable, Hashable {
    /// The claims, an organization's side by side.
    package let items: [Claim]
    /// Whether more may be claimed at once.
    package let more: Bool
}

/// What an acknowledgement found.
package struct Acknowledged: Sendable, Hashable {
    /// How many runs are counted as running from now on. Less than were dispatched where results overtook it.
    package let started: Int
    /// How many leases had been reclaimed before.
    package let lost: Int
}

/// How an owner of leases came to its end.
package enum OwnerEnd: Sendable {
    /// It stopped in order: its claims are as good as new.
    case stopped
    /// It died: each of its claims may be why.
    case crashed
}

extension Queue {
    /// Leases up to `limit` runs (at most 128) to `owner`, in the order of fairness.
    ///
    /// The owner is a word without spaces that names a process. Whatever it does not acknowledge or release
    /// within the lease goes back to the head of its queue.
    package func claim(owner: String, limit: Int, leaseMilliseconds: Int, epoch: Epoch) async throws -> Claims
    {
        try check(owner: owner)
        guard limit > 0 else { return Claims(items: [], more: true) }
        let arguments: [RedisArgument] = [.string(owner), .int(limit), .int(leaseMilliseconds)]
        let reply = try await call("claim", epoch: epoch, arguments).elements()
        let items = try stride(from: 1, to: reply.count, by: 3).map { at in
            try Claim(lease: reply[at], crashes: reply[at + 1], presence: reply[at + 2])
        }
        return Claims(items: items, more: reply.first?.int == 1)
    }

    /// Extends all leases of an owner; returns how many there are. Costs a look at every lease.
    @discardableResult
    package func renew(owner: String, leaseMilliseconds: Int, epoch: Epoch) async throws -> Int {
        try check(owner: owner)
        var cursor = "0"
        var renewed = 0
        repeat {
            let arguments: [RedisArgument] = [.string(owner), .string(cursor), .int(leaseMilliseconds)]
            let reply = try await call("renew", epoch: epoch, arguments).elements()
            cursor = reply.first?.text ?? "0"
            renewed += reply.last?.int ?? 0
        } while cursor != "0"
        return renewed
    }

    /// Ends claims: the dispatched run from now on, the dropped leave the queue.
    ///
    /// A dispatched run is counted even if its lease was lost, for its mark is committed; it is not if it was
    /// settled or replaced meanwhile. `deadlineMilliseconds` is an instant, in milliseconds since 1970.
    @discardableResult
    package func acknowledge(
        dispatched: [Claim], dropped: [Claim], deadlineMilliseconds: Int, epoch: Epoch
    ) async throws -> Acknowledged {
        let rows = dispatched.map { (true, $0.id) } + dropped.map { (false, $0.id) }
        let replies = try await call("acknowledge", epoch: epoch, slicing: rows) { slice in
            [.int(deadlineMilliseconds), .int(slice.count { $0.0 })] + slice.map { .string($0.1) }
        }
        var started = 0
        var lost = 0
        for reply in replies {
            let numbers = try reply.numbers(2)
            started += numbers[0]
            lost += numbers[1]
        }
        return Acknowledged(started: started, lost: lost)
    }

    /// Puts claims back to the head of their queues, after a delay; returns how many. Those whose lease was
    /// lost are there already, those cancelled or replaced are dropped.
    @discardableResult
    package func release(_ claims: [Claim], delayMilliseconds: Int, epoch: Epoch) async throws -> Int {
        try await call("release", epoch: epoch, slicing: claims) { slice in
            [.int(max(0, delayMilliseconds))] + slice.map { .string($0.id) }
        }
        .reduce(0) { try $0 + $1.number() }
    }

    /// Up to `limit` claims whose lease has expired and that nobody has reclaimed yet: they hold their slots.
    package func lapsed(limit: Int, epoch: Epoch) async throws -> [Claim] {
        try await call("lapsed", epoch: epoch, [.int(limit)]).elements().map {
            try Claim(lease: $0, crashes: .integer(0), presence: .null)
        }
    }

    /// Puts up to `limit` (at most 128) claims whose lease has expired back to the head of their queues and
    /// returns them, with one crash more.
    package func reclaim(now limit: Int, epoch: Epoch) async throws -> [Claim] {
        try returned(try await call("reclaim", epoch: epoch, [.int(limit)]).elements())
    }

    /// Puts all claims of an owner who is gone back to the head of their queues, whatever their lease says.
    @discardableResult
    package func reclaim(owner: String, _ end: OwnerEnd = .stopped, epoch: Epoch) async throws -> [Claim] {
        try check(owner: owner)
        var cursor = "0"
        var claims: [Claim] = []
        let crash =
            switch end {
            case .stopped: 0
            case .crashed: 1
            }
        repeat {
            let arguments: [RedisArgument] = [.string(owner), .string(cursor), .int(crash)]
            let reply = try await call("disown", epoch: epoch, arguments).elements()
            cursor = reply.first?.text ?? "0"
            claims += try returned(Array(reply.dropFirst()))
        } while cursor != "0"
        return claims
    }

    private func returned(_ reply: [RedisValue]) throws -> [Claim] {
        try stride(from: 0, to: reply.count - reply.count % 2, by: 2).map { at in
            try Claim(lease: reply[at], crashes: reply[at + 1], presence: .null)
        }
    }

    private func check(owner: String) throws {
        let allowed = owner.utf8.allSatisfy { byte in
            switch byte {
            case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
                UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."),
                UInt8(ascii: "_"),
                UInt8(ascii: ":"):
                true
            default: false
            }
        }
        guard allowed, (1...64).contains(owner.utf8.count) else {
            throw QueueError.refused("an owner is named by 1 to 64 letters, digits or any of -._:")
        }
    }
}
