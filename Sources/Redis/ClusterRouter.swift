import Logging
import Synchronization

/// Sends each command to the node of a cluster that serves its key's slot, over one pipeline a node.
///
/// The map of slots is asked for when it is missing, and again after a node sent a command elsewhere or could
/// not be reached. A command that was refused without being carried out (`MOVED`, `ASK`, `TRYAGAIN`,
/// `CLUSTERDOWN`, `LOADING`, no connection) is sent again until its time is over; one that may have been
/// carried out never is. The commands of one call for the same node leave as one pipeline; between nodes, and
/// between a command that is sent again and later ones, there is no order.
final class ClusterRouter: Sendable {
    typealias Address = RedisConfiguration.Address

    private struct State {
        var map: ClusterMap?
        /// Whether somebody said what the map does not know, or a node could not be reached.
        var isOutdated = false
        var isAsking = false
        var pipelines: [Address: Pipeline] = [:]
        var isClosing = false
        /// Of pipelines to nodes that have left: these numbers only rise.
        var left = (generation: 0, failures: 0, writes: 0)
        /// Who is asked next for the map.
        var turn = 0
    }

    /// Where a command goes next.
    private enum Target: Hashable {
        case owner(Address)
        /// Whoever is about to get the slot, this once.
        case asked(Address)

        var address: Address {
            switch self {
            case .owner(let address), .asked(let address): address
            }
        }
    }

    /// Why a command is sent again.
    private enum Again {
        case moved(slot: Int, to: Address)
        case asked(Address)
        /// After a while: the cluster is changing.
        case later(isOutdated: Bool)

        init?(_ error: RedisError, from address: Address) {
            switch Redirection(error, from: address) {
            case .moved(let slot, let owner)?: self = .moved(slot: slot, to: owner)
            case .ask(let owner)?: self = .asked(owner)
            case nil:
                switch error.code {
                case .server("TRYAGAIN"): self = .later(isOutdated: false)
                case .server("CLUSTERDOWN"), .server("LOADING"), .server("MASTERDOWN"):
                    self = .later(isOutdated: true)
                case .connection where !error.mayHaveRun: self = .later(isOutdated: true)
                default: return nil
                }
            }
        }
    }

    private let configuration: RedisConfiguration
    private let logger: Logger
    private let abandonment: Pipeline.Abandonment
    private let state = Mutex(State())
    /// How often nodes sent a command elsewhere, for good and just once.
    let moves = Atomic(0)
    let asks = Atomic(0)

    init(configuration: RedisConfiguration, logger: Logger, abandonment: Pipeline.Abandonment) {
        self.configuration = configuration
        self.logger = logger
        self.abandonment = abandonment
    }

    deinit { beginClosing() }

    /// Over all nodes, also those that have left.
    var generation: Int { sum({ $0.left.generation }, { $0.generation.load(ordering: .acquiring) }) }
    var failures: Int { sum({ $0.left.failures }, { $0.failures.load(ordering: .relaxed) }) }
    var writes: Int { sum({ $0.left.writes }, { $0.writes.load(ordering: .relaxed) }) }

    /// Connects to the first seed, so that the map comes soon.
    func start() {
        try? pipeline(to: configuration.addresses[0]).start()  // closed already: nothing is to be started
    }

    func beginClosing() {
        for pipeline in takeAll() { pipeline.beginClosing() }
    }

    func close() async {
        for pipeline in takeAll() { await pipeline.close() }
    }

    // MARK: Commands

    /// Sends the commands, each to where its key is, and gathers the answers in their order.
    func send(_ commands: [RedisCommand], timeout: Duration?) async throws -> Exchange.Replies {
        if commands.isEmpty { return [] }
        let limit = timeout ?? configuration.commandTimeout
        let deadline = ContinuousClock.now + limit
        var slots: [Int?] = []
        for command in commands { slots.append(try command.slot) }
        var replies = [Result<RedisValue, RedisError>?](repeating: nil, count: commands.count)
        var targets: [Int: Target] = [:]
        var open = Array(commands.indices)
        var backoff = Backoff()
        var hops = 0
        var isUnreached = false
        let patience = min(deadline, .now + Self.outageMax)
        while true {
            let map: ClusterMap
            do {
                map = try await currentMap(until: deadline)
            } catch let error as RedisError where hops > 0 && error.code != .cancelled {
                // What was answered is kept; the rest was refused so far.
                for index in open { replies[index] = .failure(error) }
                break
            } catch let error as RedisError where error.code == .cancelled {
                throw Self.cancelled(after: replies)
            }
            let groups = group(open, slots, targets, map, &replies)
            targets = [:]
            var again: [Int] = []
            var waits = groups.isEmpty
            let exchanged: [(Target, [Int], Exchange.Replies)]
            do {
                exchanged = try await exchange(commands, groups, deadline, limit)
            } catch let error as RedisError where error.code == .cancelled {
                // Of several nodes one may have carried out what another was not even sent.
                throw Self.cancelled(after: replies, mayHaveRun: error.mayHaveRun || groups.count > 1)
            }
            for (target, indices, answers) in exchanged {
                for (index, answer) in zip(indices, answers) {
                    replies[index] = answer
                    guard case .failure(let error) = answer else { continue }
                    if error.code == .connection || error.code == .timeout { outdate() }
                    if error.code == .connection { isUnreached = true }
                    guard let why = Again(error, from: target.address) else { continue }
                    again.append(index)
                    switch why {
                    case .moved(let slot, let owner): move(slot, to: owner)
                    case .asked(let owner):
                        asks.add(1, ordering: .relaxed)
                        targets[index] = .asked(owner)
                    case .later(let isOutdated):
                        waits = true
                        if isOutdated { outdate() }
                        if slots[index] == nil { state.withLock { $0.turn += 1 } }
                    }
                }
            }
            // Those whose slot nobody serves.
            open = (open.filter { replies[$0] == nil } + again).sorted()
            guard !open.isEmpty else { break }
            hops += 1
            if waits || hops % Self.hopsMax == 0 {
                let wait = min(backoff.next() + .milliseconds(1), Self.waitMax)
                guard ContinuousClock.now + wait < (isUnreached ? patience : deadline) else { break }
                do { try await Task.sleep(for: wait) } catch { throw Self.cancelled(after: replies) }
                targets = [:]
            } else if ContinuousClock.now >= deadline {
                break
            }
        }
        return replies.map { $0 ?? .failure(Self.unserved) }
    }

    /// Carries commands of one slot out as `MULTI … EXEC` on its node; returns the answer of `EXEC`.
    func transaction(_ commands: [RedisCommand]) async throws -> RedisValue {
        let slot = try RedisCommand.slot(ofAll: commands)
        let whole = [RedisCommand("MULTI")] + commands + [RedisCommand("EXEC")]
        let deadline = ContinuousClock.now + configuration.commandTimeout
        var backoff = Backoff()
        var asked: Address?
        while true {
            let map = try await currentMap(until: deadline)
            let owner = slot.map { map.master(of: $0) } ?? map.masters[0]
            guard let address = asked ?? owner else { throw Self.unserved }
            // It holds for all that is queued.
            let first = asked == nil ? [] : [RedisCommand("ASKING")]
            let answers = try await answers(of: .owner(address), first + whole, deadline - .now)
            asked = nil
            guard case .failure(let end)? = answers.last, !end.mayHaveRun,
                let (error, why) = answers.lazy.compactMap({ Self.reason($0, address) }).first
            else { return try answers[answers.count - 1].get() }
            switch why {
            case .moved(let slot, let owner): move(slot, to: owner)
            case .asked(let owner):
                asks.add(1, ordering: .relaxed)
                asked = owner
            case .later: outdate()
            }
            let wait = min(backoff.next() + .milliseconds(1), Self.waitMax)
            guard ContinuousClock.now + wait < deadline else { throw error }
            do { try await Task.sleep(for: wait) } catch { throw Self.cancelled(after: []) }
        }
    }

    /// The caller has gone; whether any of its commands may have been carried out.
    private static func cancelled(
        after replies: [Result<RedisValue, RedisError>?], mayHaveRun: Bool = false
    ) -> RedisError {
        let hasRun = replies.contains { reply in
            switch reply {
            case nil: false
            case .success?: true
            case .failure(let error)?: error.mayHaveRun
            }
        }
        return RedisError(
            .cancelled, "the task that waited was cancelled", mayHaveRun: hasRun || mayHaveRun)
    }

    private static func reason(
        _ answer: Result<RedisValue, RedisError>, _ address: Address
    ) -> (RedisError, Again)? {
        guard case .failure(let error) = answer, let why = Again(error, from: address) else { return nil }
        return (error, why)
    }

    /// The pipelines to all masters, as a node names them now.
    func masters() async throws -> [Pipeline] {
        outdate()
        let map = try await currentMap(until: .now + configuration.commandTimeout)
        var pipelines: [Pipeline] = []
        for address in map.masters { pipelines.append(try pipeline(to: address)) }
        return pipelines
    }

    private static let unserved = RedisError(
        reply: "CLUSTERDOWN no node of the cluster serves the key's slot")
    // How long a node that cannot be reached is tried: its callers may have others to serve.
    private static let outageMax = Duration.seconds(1)
    private static let waitMax = Duration.milliseconds(250)
    // So often a command is sent on before it waits in between.
    private static let hopsMax = 5

    /// Which node gets which commands; those of a slot that nobody serves have no place.
    private func group(
        _ open: [Int], _ slots: [Int?], _ targets: [Int: Target], _ map: ClusterMap,
        _ replies: inout [Result<RedisValue, RedisError>?]
    ) -> [Target: [Int]] {
        var groups: [Target: [Int]] = [:]
        for index in open {
            replies[index] = nil
            if let target = targets[index] {
                groups[target, default: []].append(index)
            } else if let slot = slots[index] {
                guard let owner = map.master(of: slot) else {
                    outdate()
                    continue
                }
                groups[.owner(owner), default: []].append(index)
            } else {
                groups[.owner(map.masters[anyMaster(of: map.masters.count)]), default: []].append(index)
            }
        }
        return groups
    }

    /// Commands without a key go to the same node until it cannot be reached.
    private func anyMaster(of count: Int) -> Int { state.withLock { $0.turn } % count }

    private func exchange(
        _ commands: [RedisCommand], _ groups: [Target: [Int]], _ deadline: ContinuousClock.Instant,
        _ limit: Duration
    ) async throws -> [(Target, [Int], Exchange.Replies)] {
        // A command that waits on the server begins to wait anew where it was sent on to.
        let timeout =
            switch abandonment {
            case .dropsConnection: limit
            case .discardsReply: max(.milliseconds(1), deadline - .now)
            }
        if groups.count == 1, let (target, indices) = groups.first {
            let own = indices.count == commands.count ? commands : indices.map { commands[$0] }
            return [(target, indices, try await answers(of: target, own, timeout))]
        }
        return try await withThrowingTaskGroup(of: (Target, [Int], Exchange.Replies).self) { tasks in
            for (target, indices) in groups {
                let own = indices.map { commands[$0] }
                tasks.addTask { (target, indices, try await self.answers(of: target, own, timeout)) }
            }
            return try await tasks.reduce(into: []) { $0.append($1) }
        }
    }

    /// A node that was not reached, or not trusted, answers each command with the reason, so that other
    /// nodes' answers are kept. One that has left the cluster meanwhile is a lost connection.
    private func answers(
        of target: Target, _ commands: [RedisCommand], _ timeout: Duration
    ) async throws -> Exchange.Replies {
        do {
            let pipeline = try pipeline(to: target.address)
            switch target {
            case .owner: return unlessLeft(try await pipeline.send(commands, timeout: timeout))
            case .asked:
                let asked = commands.flatMap { [RedisCommand("ASKING"), $0] }
                let answers = try await pipeline.send(asked, timeout: timeout)
                return unlessLeft(commands.indices.map { answers[2 * $0 + 1] })
            }
        } catch let error as RedisError {
            guard error.code != .cancelled else { throw error }
            return unlessLeft(commands.map { _ in .failure(error) })
        }
    }

    /// Answers of a pipeline, which is also closed when its node has left the cluster.
    private func unlessLeft(_ answers: Exchange.Replies) -> Exchange.Replies {
        guard answers.contains(where: { $0.isClosed }), !state.withLock({ $0.isClosing }) else {
            return answers
        }
        return answers.map { answer in
            guard case .failure(let error) = answer, error.code == .closed else { return answer }
            return .failure(
                RedisError(.connection, "the node has left the cluster", mayHaveRun: error.mayHaveRun))
        }
    }

    private func pipeline(to address: Address) throws(RedisError) -> Pipeline {
        let pipeline = state.withLock { state -> Pipeline? in
            if state.isClosing { return nil }
            if let pipeline = state.pipelines[address] { return pipeline }
            var node = configuration
            (node.addresses, node.deployment, node.refusesWhileDown) = ([address], .single, true)
            let pipeline = Pipeline(configuration: node, logger: logger, abandonment: abandonment)
            state.pipelines[address] = pipeline
            return pipeline
        }
        guard let pipeline else { throw RedisError(.closed, "the connection is closed") }
        return pipeline
    }

    // MARK: The map

    private func outdate() { state.withLock { $0.isOutdated = true } }

    private func move(_ slot: Int, to owner: Address) {
        moves.add(1, ordering: .relaxed)
        state.withLock { state in
            state.map?.move(slot, to: owner)
            state.isOutdated = true
        }
    }

    /// The map. Asked for if it is missing; one that is outdated is asked for by one caller, while the others
    /// go by it as it is.
    private func currentMap(until deadline: ContinuousClock.Instant) async throws -> ClusterMap {
        let (known, asks) = state.withLock { state -> (ClusterMap?, Bool) in
            guard state.map == nil || state.isOutdated && !state.isAsking else { return (state.map, false) }
            if state.map != nil { state.isAsking = true }
            state.isOutdated = false
            return (state.map, true)
        }
        if let known, !asks { return known }
        defer { if known != nil { state.withLock { $0.isAsking = false } } }
        var failure = Self.unserved
        var failures = 0
        while true {
            let (asked, count) = nextToAsk(besides: known)
            do {
                // One that hangs is not to take the time of all.
                let patience = min(max(deadline - .now, .milliseconds(1)), configuration.connectTimeout / 4)
                let reply = try await pipeline(to: asked).send(
                    [RedisCommand("CLUSTER", "SLOTS")], timeout: patience)
                return put(try ClusterMap(reply[0].get(), from: asked))
            } catch let error as RedisError {
                if error.serverCode == "ERR" {
                    throw RedisError(
                        .configuration, "\(asked) is no node of a cluster: \(error.message)")
                }
                // One that has left meanwhile is closed by us, and others can be asked.
                let hasLeft = error.code == .closed && !state.withLock { $0.isClosing }
                guard error.isTransient || error.code == .configuration || hasLeft else { throw error }
                failure = error
                state.withLock { $0.turn += 1 }
                failures += 1
            }
            guard failures % count == 0 else { continue }
            if let known {
                outdate()
                return known
            }
            guard ContinuousClock.now + .milliseconds(50) < deadline else { throw failure }
            do { try await Task.sleep(for: .milliseconds(50)) } catch { throw Self.cancelled(after: []) }
        }
    }

    /// Whom to ask, and of how many.
    private func nextToAsk(besides known: ClusterMap?) -> (Address, of: Int) {
        var all = known?.masters ?? []
        all += configuration.addresses.filter { !all.contains($0) }
        return (all[state.withLock { $0.turn } % all.count], all.count)
    }

    /// Keeps a map, and lets go of nodes that have left; what is under way there is finished.
    private func put(_ map: ClusterMap) -> ClusterMap {
        let kept = Set(map.masters + configuration.addresses)
        let left = state.withLock { state in
            state.map = map
            let left = state.pipelines.filter { !kept.contains($0.key) }
            for (address, pipeline) in left {
                state.pipelines[address] = nil
                state.left.generation += pipeline.generation.load(ordering: .acquiring)
                state.left.failures += pipeline.failures.load(ordering: .relaxed)
                state.left.writes += pipeline.writes.load(ordering: .relaxed)
            }
            return left.values
        }
        for pipeline in left { pipeline.beginClosing() }
        return map
    }

    private func takeAll() -> [Pipeline] {
        state.withLock { state in
            state.isClosing = true
            return Array(state.pipelines.values)
        }
    }

    private func sum(_ left: (State) -> Int, _ count: (Pipeline) -> Int) -> Int {
        state.withLock { state in state.pipelines.values.reduce(left(state)) { $0 + count($1) } }
    }
}

extension Result where Failure == RedisError {
    fileprivate var isClosed: Bool {
        if case .failure(let error) = self { error.code == .closed } else { false }
    }
}

extension Backoff {
    fileprivate mutating func next() -> Duration {
        var random = SystemRandomNumberGenerator()
        return next(using: &random)
    }
}
