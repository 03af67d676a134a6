import DequeModule
import Glibc
import Logging
import Synchronization
import Trust

/// What the thread of a connection does: take the mail, keep the connection alive, write, read, and hand out
/// answers.
///
/// Everything here happens under the pipeline's lock. The thread lets go of it in `poll` alone, where it
/// stays until the next thing that is due; while it does, a caller may ``push()`` what was posted. (The
/// thread also blocks in the resolver, when the address is a host name.)
final class PipelineLoop {
    typealias Instant = ContinuousClock.Instant

    private static let companyLife = Duration.milliseconds(5)

    /// What the thread waits for.
    struct Pause: Sendable {
        /// The socket, if there is one, and what it has to be ready for.
        let socket: pollfd?
        let until: Instant?
    }

    /// Where a connection leads, and who is expected there.
    private struct Hop {
        let address: RedisConfiguration.Address
        let host: Greeting.Host
    }

    /// Where the connection stands.
    private enum Link {
        /// No socket. Left when the time to try again has come.
        case down(until: Instant)
        /// The kernel connects. Left for `securing`, or for the next address, or `down`.
        case connecting(Socket, Hop, others: ArraySlice<SocketAddress>, until: Instant)
        /// TLS shakes hands, where there is any. Left for `greeting` or `ready`, or `down`.
        case securing(Transport, Hop, until: Instant)
        /// Login and questions are under way. Left for `ready`, for `connecting` to where a sentinel sends
        /// us, or `down`.
        case greeting(Session, Greeting, Hop, until: Instant)
        /// Commands flow. Left for `down` when the connection is lost.
        case ready(Session)
    }

    private let pipeline: Pipeline
    private let configuration: RedisConfiguration
    private var logger: Logger
    private var link = Link.down(until: .now)
    /// Accepted and not written.
    private var waiting: Deque<Exchange> = []
    /// No deadline of an exchange is earlier; it is looked up again when it has passed.
    private var nextDeadline: Instant?
    /// Set when the owner closes: the end of the grace for what is under way.
    private var closesAt: Instant?
    private var backoff = Backoff()
    /// Which of the addresses is asked next, and how many have failed since there was a connection.
    private var turn = 0
    private var failedInTurn = 0
    private var random = SystemRandomNumberGenerator()
    /// Why there is no connection; nil while there is one.
    private var outage: RedisError?
    private var settlements: [Exchange.Settlement] = []
    private var released = 0
    /// How long the thread waits if nobody wakes it.
    private var sleepsUntil: Instant?
    /// Until when callers that had their answers together count as company.
    private var companyEnds: Instant?
    private var buffer = [UInt8](repeating: 0, count: 64 << 10)

    init(_ pipeline: Pipeline) {
        self.pipeline = pipeline
        configuration = pipeline.configuration
        logger = pipeline.logger
        logger[metadataKey: "redis.address"] = "\(configuration)"
    }

    /// Does what there is to do, up to where the thread has to wait; nil at the end, when the owner has
    /// closed the connection and what was under way is finished or its grace is over.
    func work() -> Pause? {
        let now = Instant.now
        accept(pipeline.collect(), now: now)
        expire(now: now)
        advance(now: now)
        settle(now: now)
        // Looked at now, when what nobody waits for any more is thrown away.
        if let closesAt, isIdle || now >= closesAt {
            let error = RedisError(.closed, "the connection was closed before the answer came")
            lose(error, retryAt: now)
            refuseWaiting(error)
            settle(now: now)
            return nil
        }
        if let end = companyEnds, end <= now {
            companyEnds = nil
            pipeline.setCompany(false)
        }
        let mayBlock = pipeline.fallAsleep(seenClosing: closesAt != nil)
        // Where company is to write, the thread looks soon whether it has: the pool may be busy.
        sleepsUntil = mayBlock ? earliest(nextEvent, companyEnds) : now
        return Pause(socket: polledSocket, until: sleepsUntil)
    }

    /// Writes what was posted, in a caller's stead of the thread that sleeps; false when the thread has to
    /// wake up: only it connects, and it may have to wait for something else now.
    func push() -> Bool {
        guard case .ready = link, closesAt == nil else { return false }
        let now = Instant.now
        accept(pipeline.collect(), now: now)
        // Whether the server is silent is the thread's to say, which reads before it does.
        if case .ready(let session) = link {
            fill(session, now: now)
            flush(session, now: now)
        }
        settle(now: now)
        guard case .ready(let session) = link, !session.hasUnsent, waiting.isEmpty, closesAt == nil,
            earliest(nextEvent, sleepsUntil) == sleepsUntil
        else { return false }
        return pipeline.fallAsleep(seenClosing: false)
    }

    /// Nothing is left that closing should wait for.
    private var isIdle: Bool {
        guard case .ready(let session) = link, pipeline.abandonment == .discardsReply else { return true }
        return waiting.isEmpty && !session.slots.contains { $0.exchange != nil }
    }

    private var nextEvent: Instant? {
        let ofLink: Instant? =
            switch link {
            case .down(let until), .connecting(_, _, _, let until), .securing(_, _, let until),
                .greeting(_, _, _, let until):
                until
            case .ready(let session): session.silenceEnds(atLeast: configuration.commandTimeout)
            }
        return earliest(earliest(ofLink, nextDeadline), closesAt)
    }

    // MARK: Mail and time limits

    private func accept(_ mail: Mailbox.Mail, now: Instant) {
        // First: the commands of the same mail were posted after the caller had gone.
        if mail.dropsConnection, case .ready = link {
            lose(RedisError(.cancelled, "the caller has gone"), retryAt: now)
        }
        for exchange in mail.exchanges {
            waiting.append(exchange)
            nextDeadline = earliest(nextDeadline, exchange.deadline)
        }
        if mail.isClosing, closesAt == nil { closesAt = now + configuration.commandTimeout }
    }

    private func expire(now: Instant) {
        guard let due = nextDeadline, due <= now else { return }
        nextDeadline = nil
        var kept: Deque<Exchange> = []
        for exchange in waiting {
            if exchange.deadline <= now {
                refuseLate(exchange)
            } else {
                nextDeadline = earliest(nextDeadline, exchange.deadline)
                kept.append(exchange)
            }
        }
        waiting = kept
        guard case .ready(let session) = link else { return }
        var isAbandoned = false
        let next = session.expire(now: now) { exchange in
            guard
                let late = exchange.fail(
                    .timeout, "\(label(exchange)) had no answer within \(exchange.timeout)")
            else { return }
            isAbandoned = true
            settlements.append(late)
        }
        nextDeadline = earliest(nextDeadline, next)
        if isAbandoned, pipeline.abandonment == .dropsConnection {
            lose(RedisError(.timeout, "the caller has gone"), retryAt: now)
        }
    }

    private func refuseLate(_ exchange: Exchange) {
        let (code, why) = whyNotWritten
        released += exchange.commands.count
        keep(exchange.fail(code, "\(label(exchange)) was not sent within \(exchange.timeout): \(why)"))
    }

    private var whyNotWritten: (RedisError.Code, String) {
        if case .ready = link { return (.timeout, "the server takes no more") }
        return (.connection, outage?.message ?? "still connecting")
    }

    private func label(_ exchange: Exchange) -> String {
        exchange.commands.count == 1
            ? exchange.commands[0].name : "a pipeline of \(exchange.commands.count) commands"
    }

    // MARK: The connection

    private func advance(now: Instant) {
        switch link {
        case .down(let until):
            if until <= now { connect(now: now) }
        case .connecting(_, let hop, let others, let until):
            if until <= now {
                tryNext(
                    others, of: hop, after: RedisError(.connection, "cannot connect: no answer"), now: now)
            }
        case .securing(_, _, let until):
            if until <= now {
                lose(RedisError(.timeout, "no answer to the TLS handshake; is TLS spoken there?"), now: now)
            }
        case .greeting(_, _, _, let until):
            if until <= now { lose(RedisError(.timeout, "no answer to the login"), now: now) }
        case .ready(let session):
            if let end = session.silenceEnds(atLeast: configuration.commandTimeout), end <= now {
                lose(RedisError(.timeout, "the server has been silent for too long"), now: now)
            } else {
                fill(session, now: now)
                flush(session, now: now)
            }
        }
    }

    private func connect(now: Instant) {
        switch configuration.deployment {
        case .single, .cluster:
            go(to: Hop(address: configuration.addresses[0], host: .server(mustBeMaster: false)), now: now)
        case .sentinel:
            let sentinel = configuration.addresses[turn % configuration.addresses.count]
            go(to: Hop(address: sentinel, host: .sentinel), now: now)
        }
    }

    private func go(to hop: Hop, now: Instant) {
        do throws(RedisError) {
            tryNext(
                try SocketAddress.resolve(hop.address)[...], of: hop,
                after: RedisError(.connection, "\(hop.address) has no address"), now: now)
        } catch {
            lose(error, now: now)
        }
    }

    private func tryNext(
        _ addresses: ArraySlice<SocketAddress>, of hop: Hop, after failure: RedisError, now: Instant
    ) {
        var failure = failure
        var rest = addresses
        while let address = rest.popFirst() {
            do throws(RedisError) {
                let socket = try Socket(connectingTo: address)
                link = .connecting(socket, hop, others: rest, until: .now + configuration.connectTimeout)
                return
            } catch {
                failure = error
            }
        }
        lose(failure, now: now)
    }

    private func secure(_ socket: Socket, _ hop: Hop, now: Instant) {
        do throws(RedisError) {
            let transport = Transport(socket: socket, tls: try tls(to: hop.address))
            link = .securing(transport, hop, until: now + configuration.connectTimeout)
            try shakeHands(transport, hop, isReadable: false, now: now)
        } catch {
            lose(error, now: now)
        }
    }

    private func tls(to address: RedisConfiguration.Address) throws(RedisError) -> TLSClientSession? {
        guard let tls = configuration.tls, case .tcp(let host, _) = address else { return nil }
        let context = try tls.context()
        do throws(TrustError) {
            return try TLSClientSession(context: context, serverName: tls.serverName ?? host)
        } catch {
            throw RedisError(tls: error)
        }
    }

    private func shakeHands(
        _ transport: Transport, _ hop: Hop, isReadable: Bool, now: Instant
    ) throws(RedisError) {
        if try transport.shakeHands(isReadable: isReadable, buffer: &buffer) {
            greet(on: transport, hop, now: now)
        }
    }

    private func greet(on transport: Transport, _ hop: Hop, now: Instant) {
        let session = Session(transport: transport, replyBytesMax: configuration.replyBytesMax, now: now)
        let greeting = Greeting(configuration, to: hop.host)
        guard !greeting.isEmpty else { return becomeReady(session) }
        for command in greeting.commands {
            session.enqueue(command, for: nil, patience: configuration.connectTimeout, now: now)
        }
        link = .greeting(session, greeting, hop, until: now + configuration.connectTimeout)
        flush(session, now: now)
    }

    /// Takes an answer to the greeting. After the last one nothing more is read, for nothing more was asked.
    private func hear(_ value: RedisValue, now: Instant) throws(RedisError) {
        guard case .greeting(let session, var greeting, let hop, let until) = link else { return }
        switch try greeting.hear(value) {
        case .goesOn: link = .greeting(session, greeting, hop, until: until)
        case .isReady:
            backoff.reset()
            becomeReady(session)
        case .leads(let address):
            go(to: Hop(address: address, host: .server(mustBeMaster: true)), now: now)
        }
    }

    private func becomeReady(_ session: Session) {
        link = .ready(session)
        outage = nil
        failedInTurn = 0
        let generation = pipeline.generation.add(1, ordering: .releasing).newValue
        logger.info("redis connected", metadata: ["redis.generation": "\(generation)"])
    }

    private func fill(_ session: Session, now: Instant) {
        while session.hasRoom, let exchange = waiting.popFirst() {
            guard exchange.deadline > now else {
                refuseLate(exchange)
                continue
            }
            guard exchange.write() else {
                released += exchange.commands.count
                continue
            }
            for index in exchange.commands.indices {
                session.enqueue(exchange.commands[index], for: exchange, patience: exchange.timeout, now: now)
            }
        }
    }

    private func flush(_ session: Session, now: Instant) {
        do throws(RedisError) {
            try session.flush { pipeline.writes.add(1, ordering: .relaxed) }
        } catch {
            lose(error, now: now)
        }
    }

    private func receive(_ session: Session, now: Instant) {
        do throws(RedisError) {
            try session.receive(into: &buffer, now: now) { (exchange, value) throws(RedisError) in
                guard case .ready = link else { return try hear(value, now: now) }
                backoff.reset()
                released += 1
                keep(exchange?.answer(value.result))
                if isFromReplica(value) {
                    throw RedisError(.connection, "the server is not the master any more")
                }
            }
        } catch {
            lose(error, now: now)
        }
    }

    /// Behind sentinels a master may have become a replica while we were connected.
    private func isFromReplica(_ value: RedisValue) -> Bool {
        guard case .error(let text) = value, case .sentinel = configuration.deployment else { return false }
        return text.hasPrefix("READONLY")
    }

    private func lose(_ error: RedisError, now: Instant) {
        // Whatever went wrong behind one sentinel, the next may know better, and at once; after all of them
        // there is a pause, for they may all still name a master that is dead.
        turn += 1
        failedInTurn += 1
        let hasOthers = failedInTurn < configuration.addresses.count
        if !hasOthers { failedInTurn = 0 }
        lose(error, retryAt: hasOthers ? now : now + backoff.next(using: &random), isFinal: !hasOthers)
    }

    /// Gives the socket up; each command on it gets an error that says whether it may have run.
    private func lose(_ error: RedisError, retryAt: Instant, isFinal: Bool = true) {
        if case .ready(let session) = link {
            released += session.slots.count
            for slot in session.slots {
                let mayHaveRun = slot.end <= session.sent
                keep(
                    slot.exchange?.answer(
                        .failure(RedisError(error.code, error.message, mayHaveRun: mayHaveRun))))
            }
        }
        // One warning an outage; going away on the owner's or the caller's wish is none.
        let isNews = outage == nil && error.code != .closed && error.code != .cancelled
        logger.log(
            level: isNews ? .warning : .debug, "redis not connected", metadata: ["error": "\(error.message)"])
        outage = error
        if error.code != .closed, error.code != .cancelled {
            pipeline.failures.add(1, ordering: .relaxed)
        }
        link = .down(until: retryAt)
        if isFinal, error.refusesLogin || configuration.refusesWhileDown { refuseWaiting(error) }
    }

    private func refuseWaiting(_ error: RedisError) {
        for exchange in waiting {
            released += exchange.commands.count
            keep(exchange.fail(error.code, error.message))
        }
        waiting = []
    }

    // MARK: Answers and events

    private func keep(_ settlement: Exchange.Settlement?) {
        if let settlement { settlements.append(settlement) }
    }

    /// Makes room for new commands, then resumes the callers that are done. Several of them are company: they
    /// are about to post again, together.
    private func settle(now: Instant) {
        pipeline.release(released)
        released = 0
        if settlements.isEmpty { return }
        if settlements.count > 1 {
            companyEnds = now + Self.companyLife
            pipeline.setCompany(true)
        }
        for index in settlements.indices { settlements[index].resume() }
        settlements.removeAll(keepingCapacity: true)
    }

    private var polledSocket: pollfd? {
        switch link {
        case .down: nil
        case .connecting(let socket, _, _, _):
            pollfd(fd: socket.descriptor, events: Int16(POLLOUT), revents: 0)
        case .securing(let transport, _, _):
            pollfd(
                fd: transport.socket.descriptor,
                events: Int16(transport.hasUnsent ? POLLIN | POLLOUT : POLLIN), revents: 0)
        case .greeting(let session, _, _, _), .ready(let session):
            pollfd(
                fd: session.descriptor, events: Int16(session.hasUnsent ? POLLIN | POLLOUT : POLLIN),
                revents: 0)
        }
    }

    /// The socket is ready. If a caller has lost the connection meanwhile there is none, and nothing comes of
    /// it.
    func react(isReadable: Bool) {
        let now = Instant.now
        switch link {
        case .down: break
        case .connecting(let socket, let hop, let others, _):
            do throws(RedisError) {
                try socket.finishConnecting()
                secure(socket, hop, now: now)
            } catch {
                tryNext(others, of: hop, after: error, now: now)
            }
        case .securing(let transport, let hop, _):
            do throws(RedisError) {
                try shakeHands(transport, hop, isReadable: isReadable, now: now)
            } catch {
                lose(error, now: now)
            }
        case .greeting(let session, _, _, _), .ready(let session):
            // Reading comes first, since it may find the connection lost.
            if isReadable { receive(session, now: now) } else { flush(session, now: now) }
        }
    }
}
