import Domain
import Streams

/// PostgreSQL as the simulation has it: each method is one committed statement of `Ledger`, with the same
/// guards, and moves runs by the machine of `Domain` only.
struct Records {
    /// An open run, or one of the history.
    struct Row {
        let run: RunID
        let organization: OrganizationID
        let device: DeviceID
        let lane: Lane
        let priority: Priority
        let job: JobID
        let site: SiteID
        let kind: String
        var machine = RunMachine()
        var queuedAt = 0
        var expiresAt = 0
        var deadline = 0
        /// Not to be queued before this.
        var dueAt = 0
        var policy = RetryPolicy.none
        /// Whether it was given up since dispatchers had crashed over it.
        var isPoisoned = false
        var cancelledAt: Int?
        var gateway: GatewayID?
        var markedGenerations: Set<Int> = []
        var amendments = 0

        var queue: OrganizationQueue { OrganizationQueue(organization, priority) }

        /// What limits count it by.
        var lanes: [RunLane] { RunLane.all(job: job, site: site, kind: kind, device: device, lane: lane) }

        var name: AttemptName? {
            machine.token.map { AttemptName(run: run, attempt: machine.attempt, token: $0) }
        }
    }

    /// What became of a result, as `Settlement` of the ledger.
    enum Settlement: Equatable {
        case settled(RunID), amended, duplicate, late, foreign
    }

    struct Limits {
        var weight = 1.0
        var cap: Int?
        /// The bucket of its interactive runs; nil for the default.
        var bucket: RunRate?
    }

    private(set) var open: [RunID: Row] = [:]
    private(set) var history: [RunID: Row] = [:]
    private(set) var epoch: (id: String, startedAt: Int)?
    private(set) var openGateways: Set<GatewayID> = []
    var limits: [OrganizationID: Limits] = [:]
    /// Limits that are finer than a cap.
    var runLimits: [OrganizationID: RunLimits] = [:]
    /// Whose each job is.
    var jobs: [JobID: OrganizationID] = [:]
    /// What is paused.
    var controls: Set<Control> = []
    /// How many dispatchers have died over a run alone, as far as is noted.
    var suspects: [RunID: Int] = [:]
    var violations: [String] = []
    /// The clock of PostgreSQL, in microseconds.
    var now = 0

    static let timeout = 20_000_000
    static let wordTime = 60_000_000

    /// All open rows in the order of their ids.
    var rows: [Row] { open.values.sorted { $0.run < $1.run } }

    private static func wordDeadline(_ row: Row) -> Int { row.expiresAt + timeout + wordTime }

    // MARK: Jobs

    mutating func insert(_ rows: [Row]) {
        for var row in rows {
            jobs[row.job] = row.organization
            row.queuedAt = now
            row.deadline = row.expiresAt
            open[row.run] = row
        }
    }

    /// Queues the scheduled runs whose time has come, or all of them.
    mutating func queueDue(early: Bool = false) -> [Row] {
        let due = rows.filter {
            $0.machine.state == .scheduled && $0.machine.token == nil && (early || $0.dueAt <= now)
        }
        return due.compactMap { row in
            change(row.run) { try $0.machine.becomeDue() } ? open[row.run] : nil
        }
    }

    /// The oldest queued runs of a queue after one that no pause covers.
    func queuedRuns(of queue: OrganizationQueue, after: RunID, limit: Int) -> [Row] {
        guard !isPaused(queue) else { return [] }
        return Array(
            queued(queue).lazy.filter { $0.run > after && !self.isPaused($0) }.prefix(limit))
    }

    /// All queued runs of a queue, in the order of their ids.
    func queued(_ queue: OrganizationQueue) -> [Row] {
        open.values.filter { $0.queue == queue && $0.machine.state == .queued }.sorted { $0.run < $1.run }
    }

    /// Queues with work that has waited so long and that are not paused as a whole.
    func backlog(olderThan age: Int) -> Set<OrganizationQueue> {
        Set(open.values.filter { $0.machine.state == .queued && $0.queuedAt <= now - age }.map(\.queue))
            .filter { !isPaused($0) }
    }

    // MARK: The mark and what follows

    mutating func mark(
        _ requests: [(run: RunID, generation: Int, gateway: GatewayID, token: AttemptToken)], epoch: String,
        heedsPauses: Bool = true
    ) -> [Row] {
        guard self.epoch?.id == epoch else { return [] }
        var marked: [Row] = []
        for request in requests.sorted(by: { $0.run < $1.run }) {
            guard let row = open[request.run], !heedsPauses || !isPaused(row), row.expiresAt > now
            else { continue }
            let (before, now) = (row.machine.attempt, now)
            let isNew = change(request.run) { row in
                _ = try row.machine.mark(generation: request.generation, token: request.token)
                row.gateway = request.gateway
                row.deadline = now + 10_000_000
            }
            guard isNew else { continue }
            if open[request.run]?.markedGenerations.insert(request.generation).inserted != true {
                violations.append("a generation was marked twice: \(request.run)")
            }
            let after = open[request.run]!
            if isPaused(row) { violations.append("a run was marked under a pause: \(request.run)") }
            if row.dueAt > self.now { violations.append("a run was marked before its time: \(request.run)") }
            if after.machine.attempt > row.policy.maximumAttempts {
                violations.append("a run has attempt \(after.machine.attempt): \(request.run)")
            }
            if after.machine.attempt != before + (row.machine.token == nil ? 1 : 0) {
                violations.append("attempts do not rise by one: \(request.run)")
            }
            marked.append(after)
        }
        return marked
    }

    /// Whether anything refuses a mark of this generation but the epoch.
    func mayMark(_ run: RunID, _ generation: Int) -> Bool {
        open[run].map { $0.machine.state == .queued && $0.machine.generation == generation } ?? false
    }

    mutating func wait(_ runs: [(RunID, generation: Int)]) -> Set<RunID> {
        Set(
            runs.compactMap { run, generation in
                change(run) { try $0.machine.wait(generation: generation) } ? run : nil
            })
    }

    mutating func reconnect(_ devices: [DeviceID]) -> [Row] {
        rows.filter { devices.contains($0.device) && $0.machine.state == .waiting }.compactMap { row in
            change(row.run) { try $0.machine.reconnect() } ? open[row.run] : nil
        }
    }

    mutating func take(_ names: [AttemptName]) -> [Row] {
        names.sorted { $0.run < $1.run }.compactMap { name in
            change(name.run) { try $0.machine.sent(token: name.token) } ? open[name.run] : nil
        }
    }

    mutating func start(_ names: [AttemptName]) {
        let now = now
        for name in names {
            change(name.run) { row in
                try row.machine.start(token: name.token)
                if row.cancelledAt == nil { row.deadline = now + Self.timeout + 300_000_000 }
            }
        }
    }

    mutating func undeliver(_ names: [AttemptName]) -> [Row] {
        names.sorted { $0.run < $1.run }.compactMap { requeue($0.run, $0.token) }
    }

    mutating func undeliverLapsed() -> [Row] {
        rows.filter { $0.deadline < now && isUntaken($0) }.compactMap { requeue($0.run, $0.machine.token!) }
    }

    private func isUntaken(_ row: Row) -> Bool {
        row.machine.state == .dispatched && !row.machine.wasSent && row.expiresAt > now
    }

    private mutating func requeue(_ run: RunID, _ token: AttemptToken) -> Row? {
        change(run) { row in
            try row.machine.undeliver(token: token)
            (row.gateway, row.deadline) = (nil, row.expiresAt)
        } ? open[run] : nil
    }

    // MARK: Ends

    /// `wait` is how long the next attempt waits, if there is one.
    mutating func settle(
        _ name: AttemptName, _ outcome: Outcome, device: DeviceID, wait: Int = 0
    ) -> Settlement {
        let now = now
        if let row = open[name.run] {
            guard row.device == device else { return .foreign }
            guard row.name == name else { return .late }
            if row.policy.allowsAnother(after: name.attempt, endedAs: outcome), now + wait < row.expiresAt,
                !row.machine.cancelRequested
            {
                let isBack = change(name.run) { row in
                    try row.machine.retry(token: name.token, after: outcome)
                    (row.dueAt, row.deadline) = (now + wait, row.expiresAt)
                }
                return isBack ? .settled(name.run) : .late
            }
            guard change(name.run, { try $0.machine.finish(token: name.token, outcome: outcome) }) else {
                return .late
            }
            end(name.run)
            return .settled(name.run)
        }
        guard var row = history[name.run], row.device == device else { return .foreign }
        guard row.name == name else { return .late }
        do {
            try row.machine.finish(token: name.token, outcome: outcome)
        } catch {
            return .duplicate
        }
        row.amendments += 1
        if row.amendments > 1 { violations.append("an outcome was amended twice: \(name.run)") }
        history[name.run] = row
        return .amended
    }

    mutating func awaitWord() {
        for row in rows where row.deadline < now && isAwaited(row) {
            open[row.run]?.deadline = Self.wordDeadline(row)
        }
    }

    private func isAwaited(_ row: Row) -> Bool {
        row.machine.state == .dispatched && row.machine.wasSent && row.cancelledAt == nil
            && row.deadline < Self.wordDeadline(row)
    }

    mutating func expire() -> [Row] {
        rows.filter { $0.deadline < now && !isUntaken($0) && !isAwaited($0) }.compactMap { row in
            change(row.run) { try $0.machine.expire() } ? end(row.run) : nil
        }
    }

    /// What was not sent ends at once, and is returned as ended; what was sent is to be told.
    mutating func cancel(_ run: RunID) -> (ended: Row?, sent: Row?) {
        let wasAsked = open[run]?.cancelledAt != nil
        guard !wasAsked, change(run, { try $0.machine.cancel() }) else { return (nil, nil) }
        if open[run]?.machine.state == .cancelled { return (end(run), nil) }
        open[run]?.cancelledAt = now
        open[run]?.deadline = now + 120_000_000
        return (nil, open[run])
    }

    func cancelsUnheard() -> [Row] {
        rows.filter { ($0.cancelledAt ?? now) < now - 3_000_000 && Self.isOnDevice($0) }
    }

    @discardableResult
    mutating func end(_ run: RunID) -> Row? {
        guard let row = open.removeValue(forKey: run) else { return nil }
        if history.updateValue(row, forKey: run) != nil { violations.append("a run ended twice: \(run)") }
        return row
    }

    // MARK: Looks

    static func isOnDevice(_ row: Row) -> Bool {
        row.machine.state == .dispatched || row.machine.state == .running
    }

    func openAttempts(of device: DeviceID) -> [Row] {
        rows.filter { $0.device == device && Self.isOnDevice($0) && $0.machine.token != nil }
    }

    func running() -> [Row] { rows.filter(Self.isOnDevice) }

    func waitingDevices() -> [DeviceID] {
        Set(open.values.filter { $0.machine.state == .waiting }.map(\.device)).sorted()
    }

    func row(_ run: RunID) -> Row? { open[run] ?? history[run] }

    // MARK: The data set and gateways

    mutating func beginEpoch(_ new: String, replacing old: String?) -> Bool {
        guard epoch?.id == old else { return false }
        epoch = (new, now)
        return true
    }

    mutating func keepEpoch(_ id: String) -> Bool {
        guard epoch?.id == id else { return false }
        epoch?.startedAt = now
        return true
    }

    mutating func beginGateway(_ id: GatewayID) { openGateways.insert(id) }
    mutating func endGateway(_ id: GatewayID) { openGateways.remove(id) }

    /// Moves a run by its machine; false, and nothing has changed, where the machine refuses.
    @discardableResult
    mutating func change(_ run: RunID, _ body: (inout Row) throws -> Void) -> Bool {
        guard var row = open[run] else { return false }
        let before = row.machine
        do {
            try body(&row)
        } catch {
            return false
        }
        if row.machine.state == .queued, row.machine.generation != before.generation { row.queuedAt = now }
        open[run] = row
        return true
    }
}

/// One attempt, as every frame and update names it.
struct AttemptName: Hashable {
    let run: RunID
    let attempt: Int
    let token: AttemptToken
}
