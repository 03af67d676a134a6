import Domain
import Faults
import Logging
import NIOPosix
import Process
import Synchronization
import Trust
import Wire

/// Takes what the gateway says, runs what the verifier allows, and keeps every result until the server has
/// committed it.
///
/// The decisions are `RunnerMachine`'s, taken one frame after the other; what has to wait for the disk or for
/// a script goes on beside. The order that keeps "started at most once": acceptance on disk → `accepted`
/// sent; start on disk → process; result on disk → end on disk → `finished` sent; acknowledgement → forgotten
/// on disk → result removed.
final class Runner: Sendable {
    /// Frames of a session that may wait to be judged; a gateway that sends more has lost its manners.
    static let inboxMax = 256

    /// How long each step of the recovery may keep the agent from its work.
    static let recoveryLimit = Duration.seconds(60)

    private struct Message: Sendable {
        let frame: GatewayFrame
        let connection: GatewayConnection
    }

    private let directory: DataDirectory
    private let journal: Journal
    private let outbox: Outbox
    private let disk: NIOThreadPool
    private let now: @Sendable () -> Instant
    private let startedDelay: Duration
    private let logger: Logger
    private let verifier: Mutex<Verifier>
    private let deviceKey: P256Key
    private let renewal: CertificateRenewal
    private let machine: Mutex<RunnerMachine>
    /// The session whose welcome came last.
    private let session = Mutex<GatewayConnection?>(nil)
    private let traces = Mutex(AttemptTraces())
    private let client = Mutex<(keySet: Int, serial: String, context: TLSContext)?>(nil)
    private let messages: AsyncStream<Message>
    private let inbox: AsyncStream<Message>.Continuation

    /// Reads the state of a directory whose lock is held; blocks.
    init(
        directory: DataDirectory, identity: Identity, renewsNow: Bool = false, disk: NIOThreadPool,
        now: @escaping @Sendable () -> Instant,
        startedDelay: Duration = .seconds(1), logger: Logger
    ) throws {
        self.directory = directory
        self.disk = disk
        self.now = now
        self.startedDelay = startedDelay
        self.logger = logger
        verifier = Mutex(identity.verifier)
        deviceKey = identity.key
        renewal = CertificateRenewal(identity, isDueNow: renewsNow)
        for place in [directory.outbox, directory.runs] { try Directory.make(place, mode: 0o700) }
        let (journal, state) = try Journal.open(directory.journal, disk: disk, now: now())
        self.journal = journal
        outbox = Outbox(directory: directory.outbox)
        for failure in try outbox.sweep(keeping: state.ended + state.held) {
            logger.error("a leftover cannot be removed", metadata: ["error": "\(failure)"])
        }
        machine = Mutex(RunnerMachine(journal: state))
        (messages, inbox) = AsyncStream.makeStream(bufferingPolicy: .bufferingOldest(Self.inboxMax))
    }

    // MARK: - The session's side

    /// What a session begins with, and says again at its pace.
    func hello(_ features: Features) -> Hello {
        let (held, ended) = machine.withLock { $0.held() }
        let (keySet, assignment) = verifier.withLock {
            ($0.keySet.payload.version, $0.assignment.payload.version)
        }
        return Hello(
            agentVersion: SystemFacts.agentVersion, hostname: SystemFacts.hostname,
            platform: SystemFacts.platform,
            keySetVersion: keySet, assignmentVersion: assignment, journalPosition: journal.position,
            held: held, ended: ended, at: features.contains(.clock) ? now() : nil)
    }

    /// What the device shows a gateway, and whom it believes to be one: the same for all sessions under a key
    /// set and a certificate, so that a session can be resumed.
    func clientContext() throws -> TLSContext {
        let keySet = verifier.withLock { $0.keySet.payload }
        let certificate = renewal.certificate
        return try client.withLock { client in
            if let client, client.keySet == keySet.version, client.serial == certificate.serial {
                return client.context
            }
            let context = try TLSContext.client(
                trustedCA: keySet.serverCA, certificatePEM: certificate.pem, keyPEM: deviceKey.pem,
                minimum: .v13, alpn: ["http/1.1"])
            client = (keySet.version, certificate.serial, context)
            return context
        }
    }

    /// A frame of a session; false if too many wait.
    func take(_ frame: GatewayFrame, from connection: GatewayConnection) -> Bool {
        if case .dropped = inbox.yield(Message(frame: frame, connection: connection)) { false } else { true }
    }

    /// The session is over.
    func detach() {
        session.withLock { $0 = nil }
        machine.withLock { $0.sessionChanged(isServing: false) }
    }

    /// Ends `run` once nothing runs any more: scripts get TERM, and KILL after their grace.
    func stop() {
        for kill in machine.withLock({ $0.stop() }) { kill() }
        inbox.finish()
    }

    // MARK: - Running

    /// Settles what an earlier process left, then serves until `stop`.
    func run() async throws {
        await recover()
        await withDiscardingTaskGroup { group in
            for await message in messages { await judge(message, &group) }
        }
    }

    /// A start without an end: whatever is left of it is killed. How it ended says the result, if that was
    /// stored before the end could be written; else nobody can say.
    private func recover() async {
        let left = machine.withLock { machine in
            machine.journal.held.compactMap { key in machine.journal.entries[key].map { (key, $0) } }
        }
        await killLeft(of: left.map { $0.0.description })
        for (key, entry) in left {
            logger.warning("a run was interrupted by a restart", metadata: context(entry.name))
            let result = await stored(key, entry)
            await settle(key, result ?? unknown(entry))
        }
        await removeLeftovers()
    }

    private func stored(_ key: AttemptKey, _ entry: JournalState.Entry) async -> Finished? {
        do {
            return try await disk.runIfActive { self.outbox.stored(key, entry.name) }
        } catch {
            logger.error("a result was not looked for", metadata: context(entry.name))
            return nil
        }
    }

    private func unknown(_ entry: JournalState.Entry) -> Finished {
        let startedAt: Instant? = if case .started(let at) = entry.phase { at } else { nil }
        return Finished(
            name: entry.name, outcome: .unknown, reason: "agentRestarted", startedAt: startedAt,
            finishedAt: now())
    }

    /// Kills what is left of runs: of those that the journal holds, and of those whose leader is still noted.
    private func killLeft(of names: [String]) async {
        let runs = directory.runs
        do {
            let isDone: Void? = try await onOwnThread("crmm-recover", within: Self.recoveryLimit) {
                () throws(ProcessError) in
                for name in Set(names).union(try RunLeader.noted(in: runs)) {
                    let leader = RunLeader(beside: "\(runs)/\(name)")?.identity
                    var tree = ProcessTree(left: leader, marker: name)
                    tree.kill()
                }
            }
            if isDone == nil { logger.error("interrupted runs are still being looked for") }
        } catch {
            logger.error("interrupted runs were not looked for", metadata: ["error": "\(error)"])
        }
    }

    /// Private directories that an earlier process left. One that cannot be removed keeps nothing waiting,
    /// and since they are listed before anything runs, removal that takes long finds nothing of what runs
    /// then.
    private func removeLeftovers() async {
        let runs = directory.runs
        do {
            let listed = try await onOwnThread("crmm-list", within: Self.recoveryLimit) {
                () throws(ProcessError) in
                try DirectoryEntries(of: runs)
            }
            guard let listed else { return logger.error("leftovers were not looked for: the disk hangs") }
            let failures = try await onOwnThread("crmm-clean", within: Self.recoveryLimit) {
                () throws(ProcessError) in
                try listed.remove()
            }
            for failure in failures ?? [] {
                logger.error("a leftover cannot be removed", metadata: ["error": "\(failure)"])
            }
            if failures == nil { logger.error("leftovers are still being removed") }
        } catch {
            logger.error("leftovers cannot be removed", metadata: ["error": "\(error)"])
        }
    }

    private func judge(_ message: Message, _ group: inout DiscardingTaskGroup) async {
        switch message.frame {
        case .welcome(let welcome):
            let isFirst = session.withLock { session in
                defer { session = message.connection }
                return session !== message.connection
            }
            if isFirst { note(clock: welcome.at) }
            await welcomed(welcome, message.connection.features, isFirst: isFirst, &group)
            askRenewal(message.connection)
        case .statements(let statements):
            await adopt("key set", statements.keySet) { try $0.adopt(keySet: $1, now: $2) }
            await adopt("assignment", statements.assignment) { try $0.adopt(assignment: $1, now: $2) }
        case .dispatch(let dispatch):
            if let trace = dispatch.trace { traces.withLock { $0.keep(trace, of: dispatch.name) } }
            let step = decide(dispatch)
            group.addTask { await self.follow(step, dispatch.name) }
        case .cancel(let name):
            let step = machine.withLock { $0.cancel(name, now: now()) }
            group.addTask { await self.follow(step) }
        case .acknowledged(let name):
            traces.withLock { $0.forget(name) }
            let step = machine.withLock { $0.acknowledged(name) }
            group.addTask { await self.follow(step) }
        case .renewed(let answer): await renewed(answer)
        case .pong: break
        }
    }

    private func decide(_ dispatch: Dispatch) -> RunnerMachine.DispatchStep {
        let (name, time) = (dispatch.name, now())
        if let step = machine.withLock({ $0.known(name) }) { return step }
        let judged = verifier.withLock { verifier in
            Result { () throws(Refusal) in
                try verifier.opened(verifier.job(of: dispatch, now: time), of: dispatch, with: deviceKey)
            }
        }
        let step = machine.withLock { $0.dispatch(name, judged, now: time) }
        if case .refuse(.refused(_, let refusal, _), _) = step {
            logger.notice(
                "dispatch refused",
                metadata: context(name).merging(["error.code": "\(refusal.code.rawValue)"]) { $1 })
        }
        return step
    }

    private func follow(_ step: RunnerMachine.DispatchStep, _ name: AttemptName) async {
        switch step {
        case .ignore: break
        case .confirm: confirm(name)
        case .send(let frame): send(frame)
        case .refuse(let record, let frame):
            if await write([record]) { send(frame) }
        case .accept(let key, let record):
            FaultPoint.reach(.agentBeforeJournal)
            guard await write([record]) else { return abandon(key, name) }
            FaultPoint.reach(.agentAfterJournal)
            confirm(name)
            await follow(machine.withLock { $0.admit(key) })
        case .cancelled(let key, let record):
            guard await write([record]) else { return abandon(key, name) }
            guard let finish = machine.withLock({ $0.finish(key) }) else { return }
            await settle(
                key, Finished(name: name, outcome: .cancelled, finishedAt: now()),
                isWanted: finish.intent != .drop)
        case .resend(let key):
            if let (key, name, end) = machine.withLock({ $0.result(key) }) {
                await sendResult(key, name, end)
            }
        }
    }

    private func follow(_ step: RunnerMachine.Step) async {
        switch step {
        case .nothing: break
        case .start(let key): await perform(key)
        case .settle(let key, let intent):
            guard let name = machine.withLock({ $0.journal.entries[key]?.name }) else { return }
            await settle(
                key, Finished(name: name, outcome: .cancelled, finishedAt: now()), isWanted: intent == .cancel
            )
        case .kill(let kill): kill()
        case .record(let record): _ = await write([record])
        case .forget(let key): await forget(key)
        }
    }

    /// Runs an attempt, and then each one that takes over its place.
    private func perform(_ first: AttemptKey) async {
        var next: AttemptKey? = first
        while let key = next {
            let startedAt = now()
            guard let (record, name, job) = machine.withLock({ $0.start(key, now: startedAt) }) else {
                return
            }
            let result =
                await write([record])
                ? await execute(key, name, job, startedAt) : .failed("journalUnwritable")
            // Nobody else ends an attempt that runs.
            let intent = machine.withLock { $0.finish(key) }?.intent
            let finished = Finished(
                name: name, outcome: result.outcome, exitCode: result.exitCode,
                reason: intent == .stop && result.outcome == .cancelled ? "agentStopped" : result.reason,
                startedAt: startedAt, finishedAt: now(), stdout: result.stdout, stderr: result.stderr)
            await settle(key, finished, isWanted: intent != .drop)
            next = machine.withLock { $0.release(LaneName(job.payload.kind)) }
        }
    }

    private func execute(
        _ key: AttemptKey, _ name: AttemptName, _ job: VerifiedJob, _ startedAt: Instant
    ) async -> ExecutionResult {
        logger.info("run started", metadata: context(name, job.payload.job))
        FaultPoint.reach(.agentBeforeExecution)
        let execution = Execution(
            job: job.payload, secrets: job.secrets, key: key, directory: "\(directory.runs)/\(key)",
            logger: logger)
        let result = await withTaskGroup(of: Void.self) { group in
            group.addTask { await self.sendStarted(name, startedAt) }
            defer { group.cancelAll() }
            return await execution.perform { kill in self.machine.withLock { $0.attach(key, kill: kill) } }
        }
        FaultPoint.reach(.agentAfterExecution)
        logger.info(
            "run ended",
            metadata: context(name, job.payload.job).merging(["outcome": "\(result.outcome.name)"]) { $1 })
        return result
    }

    /// Says `started` if the run outlives the delay; cancelled at its end.
    private func sendStarted(_ name: AttemptName, _ at: Instant) async {
        do { try await Task.sleep(for: startedDelay) } catch { return }
        send(.started(Started(name: name, at: at, journalPosition: journal.position)))
    }

    // MARK: - Results

    /// Keeps the result for ever trying: until it is on disk the attempt has not ended.
    private func settle(_ key: AttemptKey, _ result: Finished, isWanted: Bool = true) async {
        let ended = JournalRecord.ended(key, AttemptEnd(result))
        let records = isWanted ? [ended] : [ended, .forgotten(key)]
        while true {
            do {
                if isWanted { try await disk.runIfActive { try self.outbox.write(key, result) } }
                try await journal.append(records)
                break
            } catch {
                logger.error(
                    "a result cannot be stored",
                    metadata: context(result.name).merging(["error": "\(error)"]) { $1 })
                do { try await Task.sleep(for: .seconds(5)) } catch { return }
            }
        }
        await follow(machine.withLock { $0.settled(key, records) })
        await sendResults()
    }

    /// Sends results while the server may be sent more.
    private func sendResults() async {
        while let (key, name, end) = machine.withLock({ $0.nextResult() }) {
            await sendResult(key, name, end)
        }
    }

    private func sendResult(_ key: AttemptKey, _ name: AttemptName, _ end: AttemptEnd) async {
        FaultPoint.reach(.agentBeforeUpload)
        let limits = machine.withLock { $0.limits }
        if let result = outbox.inMemory(key) { return send(.finished(result.cut(to: limits))) }
        do {
            let result = try await disk.runIfActive { self.outbox.read(key, name, end) }
            send(.finished(result.cut(to: limits)))
        } catch {
            // The disk's thread is gone: the agent is at its end, and the result stays where it is.
            logger.debug("a result was not read", metadata: context(name))
        }
    }

    private func prune() async {
        if let record = machine.withLock({ $0.prune(now: now()) }) { _ = await write([record]) }
    }

    private func forget(_ key: AttemptKey) async {
        if machine.withLock({ $0.isPruneDue }) { await prune() }
        guard await write([.forgotten(key)]) else { return }
        do {
            try await disk.runIfActive { try self.outbox.remove(key) }
        } catch {
            logger.warning(
                "a result cannot be removed",
                metadata: ["job.id": "\(key.job)", "attempt": "\(key.attempt)", "error": "\(error)"])
        }
        await sendResults()
    }

    // MARK: - Welcome

    private func welcomed(
        _ welcome: Welcome, _ features: Features, isFirst: Bool, _ group: inout DiscardingTaskGroup
    ) async {
        await adopt("key set", welcome.keySet) { try $0.adopt(keySet: $1, now: $2) }
        await adopt("assignment", welcome.assignment) { try $0.adopt(assignment: $1, now: $2) }
        await prune()
        let steps = machine.withLock { machine in
            if isFirst { machine.sessionChanged(isServing: true) }
            machine.obey(welcome.limits ?? .own)
            traces.withLock { traces in
                traces.areTaken = features.contains(.traces)
                for name in welcome.drop { traces.forget(name) }
            }
            return welcome.drop.map { machine.drop($0) }
                + welcome.cancel.map { machine.cancel($0, now: now()) }
        }
        for step in steps { group.addTask { await self.follow(step) } }
        group.addTask { await self.sendResults() }
    }

    /// A device whose clock is off finds jobs expired or not yet valid: that is said here too.
    private func note(clock: Instant?) {
        guard let clock else { return }
        let skew = (now() - clock).components.seconds
        guard abs(skew) >= Self.notableSkewSeconds else { return }
        logger.warning("this device's clock is off", metadata: ["seconds": "\(skew)"])
    }

    private static let notableSkewSeconds: Int64 = 60

    /// Pins a newer statement, on disk first; one that does not hold is refused and changes nothing.
    private func adopt(
        _ what: String, _ statement: Base64Bytes?,
        _ change: (inout Verifier, [UInt8], Instant) throws -> Bool
    ) async {
        guard let statement else { return }
        do {
            var changed = verifier.withLock { $0 }
            guard try change(&changed, statement.bytes, now()) else { return }
            let new = changed
            try await disk.runIfActive { try self.directory.pin(new) }
            verifier.withLock { $0 = new }
            logger.notice("statement pinned", metadata: ["statement": "\(what)"])
        } catch {
            logger.warning("statement refused", metadata: ["statement": "\(what)", "error": "\(error)"])
        }
    }

    // MARK: - The device's certificate

    /// Asks for another certificate when two thirds of the life of this one are over; at each welcome again.
    private func askRenewal(_ connection: GatewayConnection) {
        guard connection.features.contains(.renewal), renewal.isDue(now: now()) else { return }
        do {
            connection.send(.renew(try deviceKey.certificateRequest(commonName: "cloudrmm-agent")))
        } catch {
            logger.error("another certificate cannot be asked for", metadata: ["error": "\(error)"])
        }
    }

    /// Takes a certificate, on disk first; the next session is opened with it, this one goes on.
    private func renewed(_ answer: Renewed) async {
        guard let pem = answer.certificate else {
            return logger.warning(
                "the certificate is not renewed", metadata: ["reason": "\(printable(answer.refusal ?? ""))"])
        }
        do {
            let authority = verifier.withLock { $0.keySet.payload.deviceCA }
            let new = try renewal.judge(pem, authority: authority, now: now())
            try await disk.runIfActive { try self.directory.keep(new) }
            renewal.take(new)
            logger.notice(
                "certificate renewed", metadata: ["until": "\(Instant(seconds: new.notAfter))"])
        } catch {
            logger.warning("a certificate is refused", metadata: ["error": "\(error)"])
        }
    }

    // MARK: - Small steps

    private func send(_ frame: AgentFrame) {
        let frame = traces.withLock { $0.carry(frame) }
        session.withLock { $0 }?.send(frame)
    }

    /// The acceptance is durable, so the position counts it.
    private func confirm(_ name: AttemptName) {
        send(.accepted(Accepted(name: name, journalPosition: journal.position)))
    }

    private func write(_ records: [JournalRecord]) async -> Bool {
        do {
            try await journal.append(records)
            return true
        } catch {
            logger.error("the journal cannot be written", metadata: ["error": "\(error)"])
            return false
        }
    }

    private func abandon(_ key: AttemptKey, _ name: AttemptName) {
        machine.withLock { $0.abandon(key) }
        send(.rejected(Rejected(name: name, code: "full", message: "the device's journal cannot be written")))
    }

    private func context(_ name: AttemptName, _ job: JobID? = nil) -> Logger.Metadata {
        var metadata: Logger.Metadata = ["run.id": "\(name.run)", "attempt": "\(name.attempt)"]
        if let job { metadata["job.id"] = "\(job)" }
        if let trace = traces.withLock({ $0[name] }) { metadata["trace"] = "\(trace.traceID)" }
        return metadata
    }
}
