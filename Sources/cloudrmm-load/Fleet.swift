import Agent
import Domain
import NIOCore
import NIOPosix
import Process
import Synchronization
import Trust
import Wire

/// Enrols the devices that are not enrolled yet, many at a time.
struct FleetEnrolment: Sendable {
    /// Enrolments under way at a time; the server's certificates bound the rate.
    static let concurrencyMax = 16

    let apiURL: String
    let serverCA: String
    let count: Int
    /// Where identities are kept, if anywhere.
    let state: String?
    let token: @Sendable () async throws -> String

    func identities() async throws -> [Identity] {
        var kept: [Int: Identity] = [:]
        if let state {
            for number in 0..<count {
                let directory = try directory(number, in: state)
                if directory.isEnrolled { kept[number] = try directory.load() }
            }
        }
        let missing = (0..<count).filter { kept[$0] == nil }
        guard !missing.isEmpty else { return (0..<count).compactMap { kept[$0] } }
        let enroller = try Enroller(apiURL: apiURL, token: try await token(), serverCA: serverCA)
        try await withThrowingTaskGroup(of: (Int, Identity).self) { group in
            for (place, number) in missing.enumerated() {
                if place >= Self.concurrencyMax, let (done, identity) = try await group.next() {
                    kept[done] = identity
                }
                group.addTask { (number, try await enroll(number, enroller)) }
            }
            for try await (done, identity) in group { kept[done] = identity }
        }
        printLine { writer in
            writer.field("enrolled", missing.count)
            writer.field("devices", count)
        }
        return (0..<count).compactMap { kept[$0] }
    }

    private func enroll(_ number: Int, _ enroller: Enroller) async throws -> Identity {
        let result: Result<Identity, any Error> = try await onOwnThread("crmm-enroll") {
            Result {
                let now = Instant.now()
                guard let state else {
                    return try enroller.enroll(hostname: Self.name(number), machineID: nil, now: now)
                }
                return try enroller.enroll(
                    into: directory(number, in: state), hostname: Self.name(number), now: now)
            }
        }
        return try result.get()
    }

    private func directory(_ number: Int, in state: String) throws -> DataDirectory {
        try DataDirectory("\(state)/\(Self.name(number))")
    }

    static func name(_ number: Int) -> String { "load-\(number)" }
}

/// What happened to the whole fleet so far.
final class FleetCounters: Sendable {
    let sessions = Atomic(0)
    let connects = Atomic(0)
    let failures = Atomic(0)
    let dispatches = Atomic(0)
    let refused = Atomic(0)
    let finished = Atomic(0)
    let acknowledged = Atomic(0)
    let duplicates = Atomic(0)
    let cancels = Atomic(0)

    func fields(to writer: inout JSONWriter) {
        func load(_ name: String, _ value: borrowing Atomic<Int>, _ writer: inout JSONWriter) {
            writer.field(name, value.load(ordering: .relaxed))
        }
        load("sessions", sessions, &writer)
        load("connects", connects, &writer)
        load("failures", failures, &writer)
        load("dispatches", dispatches, &writer)
        load("refused", refused, &writer)
        load("finished", finished, &writer)
        load("acknowledged", acknowledged, &writer)
        load("duplicates", duplicates, &writer)
        load("cancels", cancels, &writer)
    }
}

/// All the agents of this process.
struct Fleet: Sendable {
    /// New sessions a second while the fleet comes up, so that handshakes do not storm a gateway.
    static let connectsPerSecond = 400

    let identities: [Identity]
    let threads: Int
    let work: TimeAmount
    let outputBytes: Int

    /// Serves for a time, or until it is cancelled, and prints a line a second.
    func run(duration: Duration?) async throws {
        let group = MultiThreadedEventLoopGroup(numberOfThreads: threads)
        let counters = FleetCounters()
        let agents = try identities.enumerated().map { number, identity in
            try SimulatedAgent(
                identity: identity, name: FleetEnrolment.name(number), loop: group.next(), work: work,
                outputBytes: outputBytes, counters: counters)
        }
        let ramp = Double(agents.count) / Double(Self.connectsPerSecond)
        await withTaskGroup(of: Void.self) { tasks in
            for agent in agents {
                let delay = Duration.seconds(Double.random(in: 0...ramp))
                tasks.addTask { await agent.run(after: delay) }
            }
            await report(counters, for: duration)
            tasks.cancelAll()
        }
        printLine { writer in
            writer.field("summary", true)
            writer.field("agents", agents.count)
            counters.fields(to: &writer)
        }
        try await group.shutdownGracefully()
    }

    private func report(_ counters: FleetCounters, for duration: Duration?) async {
        let start = ContinuousClock.now
        var second = 0
        while duration.map({ start.duration(to: .now) < $0 }) ?? true {
            second += 1
            do { try await Task.sleep(until: start + .seconds(second), clock: .continuous) } catch { return }
            printLine { writer in
                writer.field("second", second)
                counters.fields(to: &writer)
            }
        }
    }
}
