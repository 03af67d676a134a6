import ArgumentParser
import Client
import Domain
import Foundation
import Wire

/// `cloudrmm jobs …`
struct Jobs: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Work on devices.",
        subcommands: [
            RunJob.self, List.self, Show.self, Watch.self, Explain.self, Cancel.self, Pause.self, Resume.self,
            Retry.self,
        ],
        defaultSubcommand: List.self)

    struct RunJob: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "run", abstract: "Run a script or a definition and follow it to its end.",
            discussion: """
                Progress goes to stderr; the output of a single run to stdout and stderr as the script \
                wrote it, of several a table. Exit codes: 0 every run succeeded, 1 some did not, 2 bad usage \
                or refused, 3 the API is not reached.
                """)
        @OptionGroup var request: JobRequestOptions
        @Flag(help: "Submit and do not wait.") var detach = false
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                let submitted = try await api.propose(request.job(), idempotencyKey: UUID().uuidString)
                try await follow(submitted, api, connection, detach: detach)
            }
        }
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List jobs, newest first.")
        @Option(help: "Only those of this organization.") var organization: OrganizationID?
        @OptionGroup var list: ListOptions
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                let jobs = try await list.items { try await api.jobs(organization: organization, $0) }
                connection.show(jobs, Table("ID", "KIND", "STATE", "RUNS", "SUBMITTED")) { table, job in
                    table.add(
                        job.id.description, job.kind.rawValue, job.state.name, job.countsLine,
                        job.createdAt.description)
                }
            }
        }
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Show a job and its runs.")
        @Argument(help: "The job's id.") var id: JobID
        @OptionGroup var list: ListOptions
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                let job = try await api.job(id)
                let runs = try await list.items { try await api.runs(of: id, $0) }
                if connection.output == .table {
                    Terminal.print("\(job.kind.rawValue) \(job.state.name): \(job.countsLine)")
                    Terminal.print(
                        "submitted \(job.createdAt), expires \(job.expiresAt), priority \(job.priority.name)")
                    if let other = job.retryOf { Terminal.print("repeats runs of \(other)") }
                    if let time = job.notBefore { Terminal.print("starts no earlier than \(time)") }
                    if let retry = job.retry { Terminal.print(retry.line(retries: job.retries)) }
                    if let time = job.cancelRequestedAt { Terminal.print("cancel was asked for \(time)") }
                    if job.leftOut, let most = job.devicesMax {
                        Terminal.print("devices enrolled since were left out: it reaches \(most)")
                    }
                    if let time = job.finishedAt { Terminal.print("ended \(time)") }
                } else {
                    Terminal.print(json: job)
                }
                connection.show(runs)
            }
        }
    }

    struct Watch: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Follow a job to its end, as run does.")
        @Argument(help: "The job's id.") var id: JobID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                try await JobProgress(api: api, job: id).follow(connection.output)
            }
        }
    }
}

extension Jobs {
    struct Retry: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Repeat the runs of a job that have ended and not succeeded, by a new job.",
            discussion: "Each use repeats them all, also those that an earlier use has repeated.")
        @Argument(help: "The job's id.") var id: JobID
        @Option(help: "How many devices it reaches, exactly; asked for where it reaches many.")
        var confirmDevices: Int?
        @Flag(help: "Submit and do not wait.") var detach = false
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                let submitted = try await api.proposeRetry(
                    id, confirmDevices: confirmDevices, idempotencyKey: UUID().uuidString)
                try await follow(submitted, api, connection, detach: detach)
            }
        }
    }
}

/// Follows a job that was submitted to its end, unless it is to be left alone or waits for a second person.
private func follow(
    _ submitted: Submitted, _ api: APIClient, _ connection: ConnectionOptions, detach: Bool
) async throws {
    switch submitted {
    case .approval(let waiting): connection.show(waiting)
    case .job(let accepted) where detach:
        switch connection.output {
        case .json: Terminal.print(json: accepted)
        case .table: Terminal.print(accepted.id.description)
        }
    case .job(let accepted):
        try await JobProgress(api: api, job: accepted.id).follow(connection.output)
    }
}

/// `cloudrmm runs …`
struct Runs: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "A job on one device each.",
        subcommands: [List.self, Output.self, Explain.self, Cancel.self])

    /// Which of a run's outputs.
    enum Stream: String, ExpressibleByArgument, CaseIterable {
        case stdout, stderr
    }

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List the runs of a job.")
        @Argument(help: "The job's id.") var job: JobID
        @OptionGroup var list: ListOptions
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                connection.show(try await list.items { try await api.runs(of: job, $0) })
            }
        }
    }

    struct Output: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Print what a run printed.")
        @Argument(help: "The run's id.") var id: RunID
        @Option(help: "Only this one; else both, each to its own.") var stream: Stream?
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                let output = try await api.output(of: id)
                if connection.output == .json { return Terminal.print(json: output) }
                if stream != .stderr { Terminal.print(stdout: output.stdout) }
                switch stream {
                case .stdout: break
                case .stderr: Terminal.print(stdout: output.stderr)
                case nil: Terminal.print(stderr: output.stderr)
                }
            }
        }
    }
}

extension ConnectionOptions {
    /// Prints runs.
    func show(_ runs: [Run]) {
        show(runs, Table("RUN", "DEVICE", "STATE", "ATTEMPT", "EXIT", "REASON")) { table, run in
            table.add(
                run.id.description, run.deviceId.description, run.state.name, "\(run.attempt)",
                run.exitCode.map(String.init) ?? "–", run.reason ?? run.dueAt.map { "due \($0)" } ?? "")
        }
    }
}

extension Job {
    /// `3 running, 7 succeeded`, in the order of the states.
    var countsLine: String {
        let parts = RunState.allCases.compactMap { state in counts[state.name].map { "\($0) \(state.name)" } }
        return parts.isEmpty ? "no runs\(state == .accepted ? " yet" : "")" : parts.joined(separator: ", ")
    }
}
