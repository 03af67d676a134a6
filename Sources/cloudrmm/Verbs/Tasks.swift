import ArgumentParser
import Client
import Domain
import Wire

/// `cloudrmm tasks …`
struct TaskVerbs: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "tasks", abstract: "Work that runs on the platform itself.",
        subcommands: [List.self, Show.self, Cancel.self, Retry.self, Keep.self], defaultSubcommand: List.self)

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List tasks, oldest first.")
        @Option(help: "Only those of this organization.") var organization: OrganizationID?
        @Option(help: "Only those of this kind, such as retention.") var kind: String?
        @Option(help: "Only those in this state, such as queued, running or failed.") var state: TaskState?
        @OptionGroup var list: ListOptions
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                connection.show(
                    try await list.items {
                        try await api.tasks(organization: organization, kind: kind, state: state, $0)
                    })
            }
        }
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Show a task.")
        @Argument(help: "The task's id.") var id: TaskID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                let task = try await api.task(id)
                guard connection.output == .table else { return Terminal.print(json: task) }
                Terminal.print("\(task.kind): task \(task.id) of organization \(task.organizationId)")
                let reason = task.reason.map { " (\($0))" } ?? ""
                Terminal.print("\(task.state.name)\(reason), priority \(task.priority.name)")
                Terminal.print(
                    "begun \(task.attempt) times; \(task.failures) of \(task.maximumAttempts) failed, "
                        + "\(task.crashes) workers were lost")
                let times: [(String, Instant?)] = [
                    ("made", task.createdAt), ("due", task.dueAt), ("begun", task.startedAt),
                    ("cancel asked", task.cancelRequestedAt), ("ended", task.finishedAt),
                    ("expires", task.expiresAt),
                ]
                for (name, time) in times { if let time { Terminal.print("\(name) \(time)") } }
                if let key = task.key { Terminal.print("key \(key)") }
                if let before = task.retryOf { Terminal.print("repeats \(before)") }
            }
        }
    }

    struct Cancel: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "End a task that no worker has, or tell the worker that has it.")
        @Argument(help: "The task's id.") var id: TaskID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in connection.show([try await api.cancel(id)]) }
        }
    }

    struct Retry: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Repeat a task that ended and failed, as a new one.")
        @Argument(help: "The task's id.") var id: TaskID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in connection.show([try await api.retry(id)]) }
        }
    }

    struct Keep: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show or set for how many days an organization keeps jobs, runs and tasks that ended.")
        @Argument(help: "The organization's id.") var organization: OrganizationID
        @Option(help: "So many days, or 'default'.") var days: String?
        @OptionGroup var connection: ConnectionOptions

        func validate() throws {
            guard let days, days != "default", Int(days) == nil else { return }
            throw ValidationError("--days must be a number or 'default'")
        }

        func run() async throws {
            try await operate(connection) { api in
                let retention =
                    if let days {
                        try await api.keep(organization, NewRetention(days: Int(days)))
                    } else {
                        try await api.retention(of: organization)
                    }
                guard connection.output == .table else { return Terminal.print(json: retention) }
                Terminal.print("\(retention.days) days\(retention.isDefault ? " (default)" : "")")
            }
        }
    }
}

extension ConnectionOptions {
    fileprivate func show(_ tasks: [PlatformTask]) {
        let table = Table("ID", "ORGANIZATION", "KIND", "STATE", "ATTEMPT", "REASON", "MADE", "ENDED")
        show(tasks, table) { table, task in
            table.add(
                task.id.description, task.organizationId.description, task.kind, task.state.name,
                "\(task.attempt)", task.reason ?? "", task.createdAt.description,
                task.finishedAt?.description ?? "–")
        }
    }
}

extension TaskState: ExpressibleByArgument {
    /// The state of a word.
    package init?(argument: String) { self.init(name: argument) }

    /// All words.
    package static var allValueStrings: [String] { allCases.map(\.name) }
}
