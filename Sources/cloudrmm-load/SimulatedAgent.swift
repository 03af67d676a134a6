import Agent
import Domain
import NIOCore
import Synchronization
import Trust
import Wire

/// A device that believes and answers as a real one, and runs nothing.
final class SimulatedAgent: Sendable {
    private struct State {
        var verifier: Verifier
        /// Results that the server has not committed, and the attempts whose results it has.
        var waiting: [AttemptName: Finished] = [:]
        var committed: Set<AttemptName> = []
        var position = 0

        mutating func commit(_ name: AttemptName) -> Bool {
            waiting[name] = nil
            return committed.insert(name).inserted
        }

        /// The journal's position goes with the clock: it never falls, also from process to process.
        mutating func journalPosition(now: Instant) -> Int {
            position = max(position, Int(now.microseconds / 1_000))
            return position
        }

        /// What an attempt that came before ended with.
        func known(_ name: AttemptName, now: Instant) -> Finished? {
            guard committed.contains(name) else { return waiting[name] }
            return Finished(name: name, outcome: .succeeded, exitCode: 0, reason: "replay", finishedAt: now)
        }
    }

    private let identity: Identity
    private let name: String
    private let address: ServiceAddress
    private let loop: any EventLoop
    private let work: TimeAmount
    private let output: OutputExcerpt
    private let counters: FleetCounters
    private let state: Mutex<State>

    init(
        identity: Identity, name: String, loop: any EventLoop, work: TimeAmount, outputBytes: Int,
        counters: FleetCounters
    ) throws {
        self.identity = identity
        self.name = name
        self.loop = loop
        self.work = work
        self.counters = counters
        address = try ServiceAddress(identity.gatewayURL, scheme: "wss")
        output = OutputExcerpt(
            head: [UInt8](repeating: UInt8(ascii: "x"), count: outputBytes), tail: [], bytes: outputBytes)
        state = Mutex(State(verifier: identity.verifier))
    }

    /// Holds a session, again and again, until it is cancelled.
    func run(after delay: Duration) async {
        var generator = SystemRandomNumberGenerator()
        var failures = 0
        // A cancelled sleep ends the loop.
        try? await Task.sleep(for: delay)
        while !Task.isCancelled {
            do {
                let connection = try await GatewayConnection.open(
                    address, tls: tls(), on: loop, hello: hello, receive: receive)
                counters.connects.add(1, ordering: .relaxed)
                counters.sessions.add(1, ordering: .relaxed)
                let begun = ContinuousClock.now
                _ = await connection.ended()
                counters.sessions.subtract(1, ordering: .relaxed)
                if begun.duration(to: .now) > .seconds(60) { failures = 0 }
            } catch {
                counters.failures.add(1, ordering: .relaxed)
            }
            // As above.
            try? await Task.sleep(for: EnrolledAgent.backoff.wait(attempt: failures, using: &generator))
            failures += 1
        }
    }

    private func tls() throws -> TLSContext {
        try TLSContext.client(
            trustedCA: state.withLock { $0.verifier.keySet.payload.serverCA },
            certificatePEM: identity.certificate.pem,
            keyPEM: identity.key.pem, minimum: .v13, alpn: ["http/1.1"])
    }

    @Sendable
    private func hello(_ features: Features) -> Hello {
        state.withLock { state in
            Hello(
                agentVersion: EnrolledAgent.version, hostname: name, platform: "linux",
                keySetVersion: state.verifier.keySet.payload.version,
                assignmentVersion: state.verifier.assignment.payload.version,
                journalPosition: state.journalPosition(now: .now()), held: [],
                ended: Array(state.waiting.keys.prefix(Limits.helloAttemptsMax)),
                at: features.contains(.clock) ? .now() : nil)
        }
    }

    /// On the event loop.
    @Sendable
    private func receive(_ connection: GatewayConnection, _ frame: GatewayFrame) {
        switch frame {
        case .welcome(let welcome): welcomed(welcome, connection)
        case .statements(let newer): adopt(newer.keySet, newer.assignment)
        case .dispatch(let dispatch): answer(dispatch, connection)
        case .acknowledged(let name):
            if state.withLock({ $0.commit(name) }) { counters.acknowledged.add(1, ordering: .relaxed) }
        case .cancel: counters.cancels.add(1, ordering: .relaxed)
        case .renewed, .pong: break
        }
    }

    private func welcomed(_ welcome: Welcome, _ connection: GatewayConnection) {
        adopt(welcome.keySet, welcome.assignment)
        let waiting = state.withLock { state in
            for name in welcome.drop { _ = state.commit(name) }
            return Array(state.waiting.values)
        }
        for result in waiting { connection.send(.finished(result)) }
    }

    private func adopt(_ keySet: Base64Bytes?, _ assignment: Base64Bytes?) {
        state.withLock { state in
            if let keySet {
                // What does not hold is not taken; the next dispatch tells.
                _ = try? state.verifier.adopt(keySet: keySet.bytes, now: Instant.now())
            }
            if let assignment {
                // As above.
                _ = try? state.verifier.adopt(assignment: assignment.bytes, now: Instant.now())
            }
        }
    }

    private func answer(_ dispatch: Dispatch, _ connection: GatewayConnection) {
        counters.dispatches.add(1, ordering: .relaxed)
        let now = Instant.now()
        let name = dispatch.name
        if let known = state.withLock({ $0.known(name, now: now) }) {
            counters.duplicates.add(1, ordering: .relaxed)
            return connection.send(.finished(known))
        }
        do throws(Refusal) {
            let job = try state.withLock { state throws(Refusal) in
                try state.verifier.job(of: dispatch, now: now)
            }
            let exitCode: Int? = job.payload.kind == .script ? 0 : nil
            let end = Finished(
                name: name, outcome: .succeeded, exitCode: exitCode, startedAt: now,
                finishedAt: now + .nanoseconds(work.nanoseconds),
                stdout: output)
            let position = state.withLock { state in
                state.waiting[name] = end
                return state.journalPosition(now: now)
            }
            let accepted = AgentFrame.accepted(Accepted(name: name, journalPosition: position))
            guard work > .zero else { return finish(end, connection, after: accepted) }
            connection.send(accepted)
            loop.scheduleTask(in: work) { self.finish(end, connection) }
        } catch {
            counters.refused.add(1, ordering: .relaxed)
            connection.send(
                .rejected(Rejected(name: name, code: error.code.rawValue, message: error.message)))
        }
    }

    private func finish(_ result: Finished, _ connection: GatewayConnection, after first: AgentFrame? = nil) {
        counters.finished.add(1, ordering: .relaxed)
        if let first { connection.send(first, .finished(result)) } else { connection.send(.finished(result)) }
    }
}
