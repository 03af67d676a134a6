import Glibc
import Logging
import Synchronization

/// What a connection's thread does: connects, sends batches without waiting for those before them, and hands
/// out what comes back.
///
/// All of it happens under the connection's lock. The thread lets go of it where it waits, and while it does,
/// a caller may ``push()`` its request onto the wire: a caller that is alone has not to wait for another
/// thread to wake up.
///
/// A request's own time limit goes to the server as `statement_timeout` with its scope, so that the server
/// ends it; its caller is told by the clock here. Cancelled and overdue requests stay in the pipeline and
/// their outcome is dropped. If the server is silent past the limit of the oldest batch, the connection is
/// closed.
final class ConnectionLoop {
    /// The state of the socket.
    private enum Link {
        /// No connection until then; from start, loss and failed attempts; left by the clock.
        case down(until: ContinuousClock.Instant)
        /// `PQconnectPoll` goes on when the socket is ready; ends up `open` or, also by the clock, `down`.
        case connecting(LibPQ, LibPQ.Progress, until: ContinuousClock.Instant)
        /// The setup is sent and, once it is answered, requests are; left by loss only.
        case open(LibPQ, isReady: Bool)
    }

    /// What the thread waits for.
    struct Pause: Sendable {
        let socket: Int32?
        let events: Int32
        let until: ContinuousClock.Instant?
    }

    /// How many batches may be under way.
    private static let depthMax = 64
    /// What a server may take beyond a time limit before it counts as hung.
    private static let grace: Duration = .seconds(2)

    let shared: Connection
    private let handOver: @Sendable (Request) -> Void
    private let clock = ContinuousClock()
    private var link: Link
    private var backoff = Backoff()
    private var cache = StatementCache()
    private var backlog = Backlog()
    private var inFlight: [Batch] = []
    private var groupInFlight: Int?
    /// Nothing is overdue before.
    private var nextExpiry: ContinuousClock.Instant?
    /// When silence of the server means that it hangs.
    private var silentUntil: ContinuousClock.Instant?
    private var hasUnwritten = false
    /// The number of the transaction that is open, or of none.
    private var lease = 0
    /// The transaction that was open when the connection was lost last.
    private var lostLease: Int?
    private var serial = 0
    /// Why there is no connection; nil while there is one.
    private var outage: String?
    private var mustReset = false
    private var isClosing = false
    /// How long the thread waits if nobody wakes it.
    private var sleepsUntil: ContinuousClock.Instant?

    init(_ shared: Connection, handOver: @escaping @Sendable (Request) -> Void) {
        self.shared = shared
        self.handOver = handOver
        link = .down(until: clock.now)
    }

    /// Does what there is to do, up to where the thread has to wait; nil at the end.
    func work() -> Pause? {
        collect()
        if mustReset, case .open = link {
            lose(PostgresError(.connection, "the connection was dropped"), isDeliberate: true)
        }
        mustReset = false
        advance()
        expire()
        send()
        if isClosing, backlog.isEmpty, inFlight.isEmpty {
            shared.isReady.store(false, ordering: .relaxed)
            return nil
        }
        sleepsUntil = fallAsleep() ? nextAlarm : clock.now
        switch link {
        case .down: return Pause(socket: nil, events: 0, until: sleepsUntil)
        case .connecting(let handle, let progress, _):
            let events = if case .wantsRead = progress { POLLIN } else { POLLOUT }
            return Pause(socket: handle.descriptor, events: events, until: sleepsUntil)
        case .open(let handle, _):
            return Pause(
                socket: handle.descriptor, events: hasUnwritten ? POLLIN | POLLOUT : POLLIN,
                until: sleepsUntil)
        }
    }

    /// Sends what is in the mailbox, in a caller's stead of the thread that sleeps; false when the thread has
    /// to wake up: only it connects, and it may have to wait for something else now.
    func push() -> Bool {
        guard case .open(_, isReady: true) = link else { return false }
        collect()
        guard !mustReset, !isClosing else { return false }
        send()
        guard case .open = link, !hasUnwritten, earliest(nextAlarm, sleepsUntil) == sleepsUntil else {
            return false
        }
        return fallAsleep()
    }

    /// The socket is ready. If a caller has lost the connection meanwhile there is none, and nothing comes of
    /// it.
    func react() {
        // The thread is up: what a lost connection hands over may come back to this mailbox, and must not be
        // pushed by who holds the lock.
        shared.mailbox.withLock { $0.isWaiting = false }
        switch link {
        case .down: break
        case .connecting(let handle, _, let until): goOnConnecting(handle, until: until)
        case .open(let handle, _): receive(on: handle)
        }
    }

    // MARK: The mailbox

    /// Takes what has come.
    private func collect() {
        let (requests, mustReset, isClosing) = shared.mailbox.withLock { mailbox in
            defer {
                mailbox.requests = []
                mailbox.mustReset = false
                mailbox.isWaiting = false
            }
            return (mailbox.requests, mailbox.mustReset, mailbox.isClosing)
        }
        for request in requests {
            backlog.append(request)
            nextExpiry = min(nextExpiry ?? request.deadline, request.deadline)
        }
        self.isClosing = isClosing
        self.mustReset = self.mustReset || mustReset
    }

    private func leave(_ count: Int) { shared.load.subtract(count, ordering: .relaxed) }

    // MARK: Time

    /// Tells the callers of overdue requests; those not sent are taken out.
    private func expire() {
        guard let due = nextExpiry, due <= clock.now else { return }
        let now = clock.now
        nextExpiry = nil
        func look(_ request: Request) {
            guard !request.isSettled else { return }
            if request.deadline <= now {
                let reason = outage.map { "; there is no connection: \($0)" } ?? ""
                request.abandon(.timeout, "the time limit has passed\(reason)")
            } else {
                nextExpiry = min(nextExpiry ?? request.deadline, request.deadline)
            }
        }
        backlog.all.forEach(look)
        for batch in inFlight { batch.members.forEach(look) }
        let before = backlog.count
        backlog.removeSettled()
        leave(before - backlog.count)
    }

    /// The oldest batch has its whole limit from when it became the oldest.
    private func noteProgress() {
        silentUntil = inFlight.first.map { clock.now + $0.limit + Self.grace }
    }

    // MARK: The link

    private func advance() {
        switch link {
        case .down(let until):
            if isClosing {
                for request in backlog.all {
                    request.fail(PostgresError(.closed, "the pool was closed before there was a connection"))
                }
                leave(backlog.count)
                backlog = Backlog()
            } else if until <= clock.now {
                connect()
            }
        case .connecting(_, _, let until):
            if isClosing || until <= clock.now {
                lose(PostgresError(.connection, "connecting took too long"))
            }
        case .open:
            if let silentUntil, silentUntil <= clock.now {
                lose(PostgresError(.connection, "the server did not answer in time"))
            }
        }
    }

    private func connect() {
        guard let handle = LibPQ(shared.configuration) else {
            return lose(PostgresError(.connection, "no memory for a connection"))
        }
        guard !handle.isBroken else { return lose(PostgresError(.connection, handle.message)) }
        link = .connecting(handle, .wantsWrite, until: clock.now + shared.configuration.connectTimeout)
    }

    private func goOnConnecting(_ handle: LibPQ, until: ContinuousClock.Instant) {
        switch handle.connect() {
        case .failed: lose(PostgresError(.connection, handle.message))
        case .done:
            link = .open(handle, isReady: false)
            shared.load.add(1, ordering: .relaxed)
            transmit([.setup(shared.configuration)], on: handle)
        case let progress: link = .connecting(handle, progress, until: until)
        }
    }

    private func becomeReady(_ handle: LibPQ) {
        link = .open(handle, isReady: true)
        shared.isReady.store(true, ordering: .relaxed)
        shared.counts.established.add(1, ordering: .relaxed)
        outage = nil
        if backoff.failures > 0 { shared.logger.info("connected to postgres") }
        backoff.reset()
    }

    /// Gives up the connection: what was sent fails, what was not goes to another connection.
    private func lose(
        _ cause: PostgresError, toBlame misuse: PostgresError? = nil, isDeliberate: Bool = false
    ) {
        let (lost, unsent) = (inFlight, backlog.all)
        if isDeliberate { stopServer() }
        if !isDeliberate {
            outage = cause.message
            shared.counts.failed.add(1, ordering: .relaxed)
        }
        shared.isReady.store(false, ordering: .relaxed)
        (inFlight, backlog, cache) = ([], Backlog(), StatementCache())
        (groupInFlight, silentUntil, hasUnwritten) = (nil, nil, false)
        lostLease = lease
        lease += 1
        shared.logger.log(
            level: isDeliberate || backoff.failures > 0 ? .debug : .warning, "no connection to postgres",
            metadata: [
                "error.message": "\(cause.message)", "error.code": "\(cause.sqlState ?? "connection")",
            ])
        link = .down(until: isDeliberate ? clock.now : clock.now + backoff.next())
        var failure = PostgresError(.connection, "the connection was lost: \(cause.message)")
        failure.sqlState = cause.sqlState
        for (index, batch) in lost.enumerated() {
            let error = index == 0 ? misuse ?? failure : failure
            for member in batch.members {
                member.fail(error.with(mayHaveCommitted: batch.isSynced && member.commits))
            }
            leave(batch.members.count)
        }
        leave(unsent.count)
        for request in unsent where !request.isSettled {
            if request.lease == nil { handOver(request) } else { request.fail(failure) }
        }
    }

    /// Ends what a dropped transaction was doing. The connection carried nobody else's work and never will; a
    /// commit is left alone, whose outcome nobody should change.
    private func stopServer() {
        let steps = inFlight.flatMap(\.members)
        guard case .open(let handle, _) = link, !steps.isEmpty, steps.allSatisfy(\.isInsideTransaction)
        else { return }
        if let cancel = handle.makeCancel() { shared.send(cancel) }
    }

    // MARK: Sending

    private func send() {
        guard case .open(let handle, let isReady) = link else { return }
        while isReady, inFlight.count < Self.depthMax, !(inFlight.last?.isScript ?? false) {
            if groupInFlight == nil, let group = nextGroup() {
                groupInFlight = serial + 1
                guard transmit(group, on: handle) else { return }
                continue
            }
            guard let request = backlog.next, !request.isScript || inFlight.isEmpty else { break }
            backlog.removeNext()
            checkLease(request)
            guard request.markSent() else {
                leave(1)
                continue
            }
            guard transmit([request], on: handle) else { return }
        }
        guard let unwritten = handle.flush() else {
            return lose(PostgresError(.connection, handle.message))
        }
        hasUnwritten = unwritten
    }

    /// Refuses a step of a transaction that is not open any more.
    private func checkLease(_ request: Request) {
        guard let wanted = request.lease, wanted != lease else { return }
        let isLost = wanted == lostLease
        request.fail(
            isLost
                ? PostgresError(.connection, "the connection was lost, and the transaction with it")
                : PostgresError(.closed, "the transaction has ended"))
    }

    private func nextGroup() -> [Request]? {
        while case let candidates = backlog.nextGroup(), !candidates.isEmpty {
            let group = candidates.filter { $0.markSent() }
            leave(candidates.count - group.count)
            if !group.isEmpty { return group }
        }
        return nil
    }

    @discardableResult
    private func transmit(_ members: [Request], on handle: LibPQ) -> Bool {
        serial += 1
        let latest = members.map(\.deadline).max() ?? clock.now
        var batch = Batch(id: serial, members: members, limit: max(clock.now.duration(to: latest), .zero))
        if case .begin = members[0].kind { lease += 1 }
        let isSent =
            batch.isScript
            ? handle.send(script: members[0].statements[0].key.text) : write(&batch, on: handle)
        if members[0].endsLease { lease += 1 }
        batch.isSynced = isSent
        inFlight.append(batch)
        guard isSent else {
            lose(PostgresError(.connection, handle.message))
            return false
        }
        if inFlight.count == 1 { noteProgress() }
        while let name = cache.evict() { deallocate(name, on: handle) }
        if case .open = link { return true } else { return false }
    }

    private func write(_ batch: inout Batch, on handle: LibPQ) -> Bool {
        var inForce: Settings?
        // What the session begins with; inside a transaction, the steps before have left another.
        let first = batch.members[0].isAlone ? shared.configuration.statementTimeout.milliseconds : nil
        for (index, member) in batch.members.enumerated() {
            if member.setsScope, case let settings = member.settings, settings != inForce {
                guard
                    let scope = settings.statement(
                        besides: inForce?.milliseconds ?? first, actor: inForce?.actor ?? ""),
                    write(scope, as: .scope, &batch, on: handle)
                else { return false }
                inForce = settings
            }
            for statement in member.statements {
                let step = Batch.Step.statement(member: index, key: statement.key)
                guard write(statement, as: step, &batch, on: handle) else { return false }
            }
        }
        return handle.sync()
    }

    private func write(_ statement: Statement, as step: Batch.Step, _ batch: inout Batch, on handle: LibPQ)
        -> Bool
    {
        defer { batch.steps.append(step) }
        switch cache.use(statement.key, batch: batch.id) {
        case .once: return handle.send(statement, name: nil)
        case .prepared(let name): return handle.send(statement, name: name)
        case .prepare(let name):
            batch.steps.append(.prepare(statement.key))
            return handle.prepare(statement.key, name: name) && handle.send(statement, name: name)
        }
    }

    private func deallocate(_ name: String, on handle: LibPQ) {
        serial += 1
        var batch = Batch(id: serial, members: [], limit: shared.configuration.statementTimeout)
        batch.steps = [.deallocate]
        inFlight.append(batch)
        guard handle.send(Statement(script: "DEALLOCATE \(name)"), name: nil), handle.sync() else {
            return lose(PostgresError(.connection, handle.message))
        }
    }

    // MARK: Waiting and receiving

    /// Announces that the thread waits, so that the next post wakes it; false when there is mail already.
    private func fallAsleep() -> Bool {
        shared.mailbox.withLock { mailbox in
            mailbox.isWaiting =
                mailbox.requests.isEmpty && !mailbox.mustReset && mailbox.isClosing == isClosing
            return mailbox.isWaiting
        }
    }

    private var nextAlarm: ContinuousClock.Instant? {
        let ofLink =
            switch link {
            case .down(let until), .connecting(_, _, let until): until
            case .open: silentUntil
            }
        return earliest(nextExpiry, ofLink)
    }

    private func receive(on handle: LibPQ) {
        let isAlive = handle.receive()
        var blanks = 0
        while !inFlight.isEmpty, !handle.isBusy {
            let step = inFlight[0].steps.first
            switch handle.next(keepingRows: inFlight[0].keepsRows) {
            case .result(let result):
                inFlight[0].steps = inFlight[0].steps.dropFirst()
                if case .prepare(let key) = step { cache.confirm(key) }
                if let misuse = inFlight[0].succeed(step, result) {
                    return lose(PostgresError(.connection, "a statement misused it"), toBlame: misuse)
                }
            case .failure(let error, let isFatal):
                inFlight[0].steps = inFlight[0].steps.dropFirst()
                if isFatal { return lose(error) }
                inFlight[0].fail(step, error)
                forget(step, because: error, on: handle)
            case .skipped:
                inFlight[0].steps = inFlight[0].steps.dropFirst()
                if case .prepare(let key) = step { _ = cache.forget(key) }
            case .sync: finish(on: handle)
            case .end where inFlight[0].isScript:
                guard handle.endScript() else { return lose(PostgresError(.connection, handle.message)) }
                finish(on: handle)
            case .end:
                blanks += 1
                guard blanks <= 2 else {
                    return lose(PostgresError(.connection, "the pipeline is out of step"))
                }
                continue
            case .unexpected(let status):
                let misuse = PostgresError(.configuration, "a statement answered with \(status)")
                return lose(PostgresError(.connection, "a statement misused it"), toBlame: misuse)
            }
            blanks = 0
            guard case .open = link else { return }
        }
        guard isAlive else { return lose(PostgresError(.connection, handle.message)) }
        noteProgress()
    }

    /// Drops a statement that could not be prepared, or whose preparation is of no more use: 0A000 after a
    /// change of its columns, 26000 after somebody deallocated it.
    private func forget(_ step: Batch.Step?, because error: PostgresError, on handle: LibPQ) {
        switch step {
        case .prepare(let key): _ = cache.forget(key)
        case .statement(_, let key) where error.sqlState == "0A000" || error.sqlState == "26000":
            if let name = cache.forget(key) { deallocate(name, on: handle) }
        case .statement, .scope, .deallocate, nil: break
        }
    }

    private func finish(on handle: LibPQ) {
        let batch = inFlight.removeFirst()
        if batch.id == groupInFlight { groupInFlight = nil }
        guard let first = batch.members.first else { return }
        if case .setup = first.kind {
            leave(1)
            guard let error = batch.error else { return becomeReady(handle) }
            return lose(error)
        }
        if batch.error != nil, first.isGrouped, batch.members.count > 1 {
            backlog.retry(batch.bisected)
            return
        }
        leave(batch.members.count)
        for (member, results) in zip(batch.members, batch.results) {
            if let error = batch.error {
                member.fail(error)
            } else {
                member.succeed(Request.Reply(results: results, lease: lease, isIdle: handle.isIdle))
            }
        }
        if first.isAlone, inFlight.isEmpty, !handle.isIdle {
            lose(PostgresError(.connection, "a transaction was left open"))
        }
    }
}

/// The earlier of two instants, either of which may be missing.
private func earliest(
    _ first: ContinuousClock.Instant?, _ second: ContinuousClock.Instant?
) -> ContinuousClock.Instant? {
    guard let first, let second else { return first ?? second }
    return min(first, second)
}
