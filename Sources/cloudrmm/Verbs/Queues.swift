import ArgumentParser
import Client
import Domain
import Wire

/// `cloudrmm queues …`
struct Queues: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "What waits, by organization, and what holds it back.",
        subcommands: [
            List.self, Show.self, Top.self, Pause.self, Resume.self, Drain.self, Controls.self, Weight.self,
            Cap.self, LimitRuns.self, Interactive.self, Quota.self,
        ],
        defaultSubcommand: List.self)

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List queues.")
        @OptionGroup var list: ListOptions
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                connection.show(try await list.items { try await api.queues($0) })
            }
        }
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show an organization's queues, its share, and what holds it back.")
        @Argument(help: "The organization's id.") var organization: OrganizationID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                connection.show(try await api.queue(of: organization))
            }
        }
    }

    struct Pause: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Start no more runs of an organization, a kind, a priority or of everything.",
            discussion: "What runs already goes on. `--all` without --kind and --priority stops everything.")
        @OptionGroup var scope: ScopeOptions
        @Option(help: "Why; whoever is held back by it is shown that.") var reason: String?
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                let request = ControlRequest(try scope.scope(), reason: reason)
                connection.show([try await api.pause(request)])
            }
        }
    }

    struct Drain: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Refuse new jobs of an organization, a kind, a priority or of everything.",
            discussion: "What is queued runs to its end.")
        @OptionGroup var scope: ScopeOptions
        @Option(help: "Why; whoever is refused is told that.") var reason: String?
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                let request = ControlRequest(try scope.scope(), reason: reason)
                connection.show([try await api.drain(request)])
            }
        }
    }

    struct Resume: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "End pauses and drains of exactly what is named.")
        @OptionGroup var scope: ScopeOptions
        @Option(help: "Only the pause or only the drain.") var mode: ControlMode?
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                let request = ResumeRequest(try scope.scope(), mode: mode)
                connection.show(try await api.resume(request).lifted)
            }
        }
    }

    struct Controls: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List the pauses and drains in force.")
        @OptionGroup var list: ListOptions
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                connection.show(try await list.items { try await api.controls($0) })
            }
        }
    }

    struct Weight: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Set an organization's share of the work; 1 is the default.")
        @Argument(help: "The organization's id.") var organization: OrganizationID
        @Argument(help: "From 0.001 to 1000: with 2 it gets twice what it gets with 1.") var weight: Double
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                // Judged here as the server does, so that a mistake is told without it.
                let new = try NewWeight.decode(NewWeight(weight: weight).json)
                connection.show(try await api.weigh(organization, new))
            }
        }
    }

    struct Cap: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Limit how many runs of an organization are on devices.")
        @Argument(help: "The organization's id.") var organization: OrganizationID
        @Argument(help: "The most runs, or none.") var cap: String
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                guard cap == "none" || Int(cap) != nil else {
                    throw Failure(.usage, "the cap is \"\(printable(cap))\"; allowed are a number and none")
                }
                let new = try NewCap.decode(NewCap(cap: Int(cap)).json)
                connection.show(try await api.cap(organization, new))
            }
        }
    }
}

/// What a pause, a drain or a resume covers.
struct ScopeOptions: ParsableArguments {
    @Option(help: "The organization whose runs are meant.") var organization: OrganizationID?
    @Flag(help: "Those of all organizations; needs a key of the platform.") var all = false
    @Option(help: "Only this kind: script, ping or sysinfo.") var kind: JobKind?
    @Option(help: "Only this priority: interactive, standard or bulk.") var priority: Priority?

    /// The scope; nothing said is not everything.
    func scope() throws -> QueueScope {
        guard all == (organization == nil) else {
            throw Failure(.usage, "name an --organization, or say --all; not both")
        }
        return QueueScope(organization: organization, kind: kind, priority: priority)
    }
}

extension ControlMode: ExpressibleByArgument {
    /// The mode of a word.
    init?(argument: String) {
        guard let mode = ControlMode.allCases.first(where: { $0.name == argument }) else { return nil }
        self = mode
    }
}

extension ConnectionOptions {
    /// Prints queues.
    func show(_ queues: [QueueStatus]) {
        let table = Table(
            "ORGANIZATION", "PRIORITY", "DEPTH", "OLDEST", "WAITING", "RUNNING", "CAP", "WEIGHT", "SHARE",
            "ENTITLED", "ENDED/S")
        show(queues, table) { table, queue in
            table.add(
                queue.organizationId.description, queue.priority.name,
                "\(queue.exact ? "" : "~")\(queue.depth)",
                queue.oldestAgeSeconds.map { "\(Int($0)) s" } ?? "–", "\(queue.waiting)", "\(queue.running)",
                queue.cap.map(String.init) ?? "–", "\(queue.weight)", percent(queue.share),
                percent(queue.entitlement), queue.drainRate.map(rate) ?? "–")
        }
    }

    /// Prints how one organization stands.
    fileprivate func show(_ queue: OrganizationQueues) {
        guard output == .table else { return Terminal.print(json: queue) }
        Terminal.print("weight \(queue.weight), cap \(queue.cap.map(String.init) ?? "none")")
        if let bucket = queue.interactive { Terminal.print(interactive(bucket)) }
        Terminal.print(
            "share of the last minute \(percent(queue.share)), entitled to \(percent(queue.entitlement))"
        )
        if let start = queue.startRate, let drain = queue.drainRate {
            Terminal.print("\(rate(start)) runs started and \(rate(drain)) ended a second")
        }
        if let quota = queue.quota {
            Terminal.print(
                "\(quota.openRuns.used) of \(quota.openRuns.limit) runs and \(quota.openBytes.used) of "
                    + "\(quota.openBytes.limit) bytes open")
        }
        show(queue.queues)
        if !queue.controls.isEmpty { show(queue.controls) }
    }

    /// Prints pauses and drains.
    fileprivate func show(_ controls: [QueueControl]) {
        let table = Table("MODE", "COVERS", "SINCE", "BY", "REASON")
        show(controls, table) { table, control in
            table.add(
                control.mode.name, control.scope.description, control.since.description,
                control.byPlatform ? "platform" : "key \(control.createdBy)", control.reason ?? "")
        }
    }

    private func percent(_ part: Double?) -> String { part.map { "\(Int(($0 * 100).rounded())) %" } ?? "–" }

    private func rate(_ rate: Double) -> String { "\((rate * 10).rounded() / 10)" }
}

/// `cloudrmm workers …`
struct Workers: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "The processes of the installation.", subcommands: [List.self, Drain.self],
        defaultSubcommand: List.self)

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List the roles of all processes.")
        @OptionGroup var list: ListOptions
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                connection.show(try await list.items { try await api.workers($0) })
            }
        }
    }

    struct Drain: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Let a worker finish what it holds and claim nothing more.",
            discussion: "It is drained when `workers list` says so; then it may be stopped.")
        @Argument(help: "The worker's id.") var id: WorkerID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in connection.show([try await api.drain(id)]) }
        }
    }
}

extension ConnectionOptions {
    /// Prints roles of processes.
    fileprivate func show(_ workers: [WorkerStatus]) {
        let table = Table("ID", "ROLE", "STATE", "TASKS", "HOST", "PROCESS", "SINCE", "SEEN")
        show(workers, table) { table, worker in
            table.add(
                worker.id.description, worker.role, worker.state.rawValue, "\(worker.tasks)", worker.host,
                "\(worker.processId)",
                worker.startedAt.description, worker.seenAt.description)
        }
    }
}
