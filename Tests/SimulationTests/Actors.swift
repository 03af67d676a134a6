import Domain
import Streams

/// A process of the product: it may be killed, stopped and continued.
class Process {
    let name: String
    /// The data set as it knows it, and since when it has known that one (`QueueFront`).
    var epoch: Epoch?
    var latest: Epoch?
    var epochSince = -10_000_000
    /// Until then it is stopped.
    var pausedUntil = 0

    init(_ name: String) { self.name = name }

    func die() { (epoch, latest, epochSince) = (nil, nil, -10_000_000) }
}

/// A worker: dispatcher, refiller, reconciler and rebuilder.
final class Worker: Process {
    var life = 0
    var places: [OrganizationQueue: Place] = [:]
    var courses: [OrganizationQueue: Course] = [:]
    /// Organizations whose runs have their places, as far as this worker knows.
    var labelled: Set<OrganizationID> = []
    /// Notes about suspects that could not be taken back.
    var leftNotes: [RunID] = []
    /// Whether everything was paused, and when that was read (`ClaimGate`).
    var gate: (isClosed: Bool, read: Int) = (false, -10_000_000)
    var begun: String?
    /// What its dispatchers have under way (`ClaimGate.crashes`).
    private(set) var crashes = Crashes.shared(0)

    enum Crashes: Equatable {
        case shared(Int), alone
    }

    var owner: String { "\(name).\(life)" }

    /// Does something beside other batches.
    func share<Value>(_ body: () async throws -> Value) async throws -> Value {
        let life = life
        if case .shared(let count) = crashes { crashes = .shared(count + 1) }
        defer { if self.life == life, case .shared(let count) = crashes { crashes = .shared(count - 1) } }
        return try await body()
    }

    /// Does something if nothing else is under way; false if there is.
    func alone(_ body: () async throws -> Void) async throws -> Bool {
        guard crashes == .shared(0) else { return false }
        let life = life
        crashes = .alone
        defer { if self.life == life { crashes = .shared(0) } }
        try await body()
        return true
    }

    override func die() {
        super.die()
        crashes = .shared(0)
        (places, courses, begun) = ([:], [:], nil)
        (labelled, leftNotes, gate) = ([], [], (false, -10_000_000))
        life += 1
    }
}

/// Where a worker is in the backlog of an organization (`Refiller.Place`).
struct Place {
    var low = RunID(.zero)
    let looked: Int
    var passed: RunID?
    var steps = 0

    var after: RunID { passed ?? low.predecessor }
    var isFromStart: Bool { passed == nil && low == RunID(.zero) }

    mutating func move(by runs: [RunID], passed count: Int, limit: Int) {
        if passed == nil, let first = runs.first { low = first }
        if steps < 15, count > 0, count < runs.count || runs.count == limit {
            passed = runs[count - 1]
            steps += 1
        } else {
            beginPass()
        }
    }

    mutating func beginPass() { (passed, steps) = (nil, 0) }
}

extension RunID {
    /// The greatest id before this one.
    var predecessor: RunID {
        guard self != RunID(.zero) else { return self }
        return RunID(UniqueID(high: value.low == 0 ? value.high - 1 : value.high, low: value.low &- 1))
    }
}

/// A gateway: an incarnation and the sessions that it holds.
final class Station: Process {
    var id: GatewayID
    var sessions: [DeviceID: Link] = [:]
    var lastBeat = 0
    var seenEpoch: Epoch?
    var isStale = false
    var results: [(link: Link, name: AttemptName, outcome: Outcome)] = []
    var starts: [AttemptName] = []
    var ended: [Link] = []
    var hellos: [Link] = []
    /// Connections that their devices have left without a word.
    var halfOpen: [Link] = []
    /// Sessions whose devices said hello again.
    var repeated: [Link] = []

    init(_ name: String, id: GatewayID) {
        self.id = id
        super.init(name)
    }

    override func die() {
        super.die()
        for link in Array(sessions.values) + ended + hellos { link.close() }
        (sessions, results, starts, ended) = ([:], [], [], [])
        (hellos, halfOpen, repeated) = ([], [], [])
        (seenEpoch, isStale) = (nil, false)
    }
}

/// A connection between a device and a gateway, as each end sees it.
final class Link {
    let device: Device
    let gateway: Station
    var number = 0
    /// Whether it was welcomed.
    var isServing = false
    /// Whether the gateway has closed it, and whether the device has gone from it.
    private(set) var isClosed = false
    var isLeft = false
    /// Whether the gateway has heard that it has ended.
    var hasEnded = false
    var toDevice: [Message] = []
    var toGateway: [Word] = []
    /// What the device said of itself last.
    var hello: Hello

    init(_ device: Device, _ gateway: Station) {
        (self.device, self.gateway) = (device, gateway)
        hello = device.hello
    }

    /// The gateway ends it; a device that is on it notices.
    func close() {
        guard !isClosed else { return }
        isClosed = true
        gateway.ended.append(self)
        toGateway = []
        if device.link === self { device.link = nil }
    }
}

/// What a device says first.
struct Hello {
    let held: Set<AttemptName>
    let ended: Set<AttemptName>
    let position: Int
}

/// From a gateway to a device.
enum Message {
    case dispatch(AttemptName)
    case cancel(AttemptName)
    case drop(AttemptName)
    case acknowledged(AttemptName)
}

/// From a device to its gateway.
enum Word {
    case accepted(position: Int)
    case started(AttemptName, position: Int)
    case finished(AttemptName, Outcome)
}

/// A device and what its agent keeps on disk.
final class Device {
    enum Held { case accepted, running, ended }

    struct Disk {
        var journal: [AttemptName: Held] = [:]
        var outbox: [AttemptName: Outcome] = [:]
        var tombstones: Set<AttemptName> = []
        var position = 0
    }

    let id: DeviceID
    let organization: OrganizationID
    let site: SiteID
    var disk = Disk()
    var copy: Disk?
    var link: Link?
    /// Its journal was put back: what it forgot, nobody can know.
    var forgotten: Set<AttemptName> = []

    init(_ id: DeviceID, _ organization: OrganizationID, _ site: SiteID) {
        (self.id, self.organization, self.site) = (id, organization, site)
    }

    var hello: Hello {
        Hello(
            held: Set(disk.journal.filter { $0.value != .ended }.keys), ended: Set(disk.outbox.keys),
            position: disk.position)
    }

    /// Whether it has something to read, to carry out or to be heard.
    var isBusy: Bool {
        guard let link, link.isServing else { return false }
        return !link.toDevice.isEmpty || !link.toGateway.isEmpty || !held(.accepted).isEmpty
            || !held(.running).isEmpty
    }

    func held(_ state: Held) -> [AttemptName] {
        disk.journal.filter { $0.value == state }.keys.sorted { ($0.run, $0.attempt) < ($1.run, $1.attempt) }
    }

    func note(_ name: AttemptName, _ state: Held) {
        disk.journal[name] = state
        disk.position += 1
    }

    /// Ends an attempt, and keeps the result until it is acknowledged.
    func end(_ name: AttemptName, _ outcome: Outcome) {
        note(name, .ended)
        disk.outbox[name] = outcome
        link?.toGateway.append(.finished(name, outcome))
    }
}
