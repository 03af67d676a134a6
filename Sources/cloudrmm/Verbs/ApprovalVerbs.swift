import ArgumentParser
import Client
import Domain
import Wire

/// `cloudrmm approvals …`
struct ApprovalVerbs: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "approvals", abstract: "What waits for a second person.",
        discussion: "Approving takes a fresh second factor, and another person than the one who asked.",
        subcommands: [List.self, Show.self, Approve.self, Reject.self], defaultSubcommand: List.self)

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List what waits, newest first.")
        @Option(help: "Only this state: awaitingApproval, approved, rejected or refused.")
        var state: ApprovalState?
        @OptionGroup var list: ListOptions
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                connection.show(try await list.items { try await api.approvals(state: state, $0) })
            }
        }
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Show what waits, as it was sent.")
        @Argument(help: "Its id.") var id: ApprovalID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { Terminal.print(json: try await $0.approval(id)) }
        }
    }

    struct Approve: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Approve as a second person: it is submitted in the name of who asked.")
        @Argument(help: "Its id.") var id: ApprovalID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { connection.show([try await $0.approve(id)]) }
        }
    }

    struct Reject: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Reject it: nothing is made.")
        @Argument(help: "Its id.") var id: ApprovalID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { connection.show([try await $0.reject(id)]) }
        }
    }
}

extension ConnectionOptions {
    fileprivate func show(_ approvals: [Approval]) {
        let table = Table("ID", "KIND", "STATE", "DEVICES", "ASKED BY", "UNTIL", "JOB")
        show(approvals, table) { table, approval in
            table.add(
                approval.id.description, approval.kind.name, approval.state.name, "\(approval.devices)",
                approval.askedBy.description, approval.expiresAt.description,
                approval.jobId?.description ?? approval.refusal ?? "–")
        }
    }

    /// Says that what was submitted waits for a second person.
    func show(_ waiting: PendingApproval) {
        let submitted = Submitted.approval(waiting)
        switch output {
        case .json: Terminal.print(json: submitted)
        case .table:
            Terminal.print(waiting.id.description)
            Terminal.complain(
                "\(waiting.devices) devices take a second person: cloudrmm approvals approve "
                    + "\(waiting.id), until \(waiting.expiresAt)", prefix: "")
        }
    }
}

extension ApprovalState: ExpressibleByArgument {
    /// The state of a word.
    init?(argument: String) {
        guard let state = Self.allCases.first(where: { $0.name == argument }) else { return nil }
        self = state
    }
}
