import ArgumentParser
import Client
import Domain
import Wire

/// `cloudrmm dead-letters …`
struct DeadLetters: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "dead-letters", abstract: "Runs of which nothing more is tried.",
        subcommands: [List.self, Show.self, Redrive.self, Discard.self], defaultSubcommand: List.self)

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List dead letters, newest first.")
        @OptionGroup var filter: DeadLetterOptions
        @OptionGroup var list: ListOptions
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                let letters = try await list.items {
                    try await api.deadLetters(
                        organization: filter.organization, job: filter.job, reason: filter.reason,
                        since: filter.since, $0)
                }
                connection.show(
                    letters, Table("RUN", "JOB", "DEVICE", "REASON", "STATE", "ATTEMPT", "EXIT", "SINCE")
                ) { table, letter in
                    table.add(
                        letter.run.id.description, letter.run.jobId.description,
                        letter.run.deviceId.description, letter.reason, letter.run.state.name,
                        "\(letter.run.attempt)", letter.run.exitCode.map(String.init) ?? "–",
                        letter.since.description)
                }
            }
        }
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show a dead letter with the evidence of its attempts and crashes.")
        @Argument(help: "The run's id.") var id: RunID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                let detail = try await api.deadLetter(id)
                guard connection.output == .table else { return Terminal.print(json: detail) }
                let (letter, run) = (detail.letter, detail.letter.run)
                Terminal.print("\(letter.reason): run \(run.id) of job \(run.jobId) on \(run.deviceId)")
                Terminal.print("a dead letter since \(letter.since)")
                var table = Table("ATTEMPT", "OUTCOME", "EXIT", "REASON", "FINISHED", "KIND")
                for attempt in detail.attempts {
                    table.add(
                        "\(attempt.attempt)", attempt.outcome.name,
                        attempt.exitCode.map(String.init) ?? "–", attempt.reason ?? "",
                        attempt.finishedAt?.description ?? "–", attempt.kind)
                }
                table.print()
                for crash in detail.crashes {
                    Terminal.print("dispatcher \(crash.owner) took attempt \(crash.attempt) at \(crash.at)")
                }
            }
        }
    }

    struct Redrive: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Repeat dead letters by newly signed jobs.",
            discussion: """
                Name runs, or say by options which are meant. --dry-run says how many they are; where they \
                are many, --expect must say the number exactly.
                """)
        @OptionGroup var selection: SelectionOptions
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                let answer = try await api.redrive(try selection.selection())
                guard connection.output == .table else { return Terminal.print(json: answer) }
                var table = Table("JOB", "RUNS", answer.dryRun ? "" : "REPEATED BY")
                for job in answer.jobs {
                    table.add(
                        job.retryOf.description, "\(job.runs)",
                        job.id?.description ?? job.problem?.detail ?? "")
                }
                table.print()
                let failed = answer.jobs.count { $0.problem != nil }
                if failed > 0 {
                    throw Failure(.failedRuns, "the dead letters of \(failed) jobs are not repeated")
                }
            }
        }
    }

    struct Discard: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Take dead letters off the list; their runs stay as they ended.")
        @OptionGroup var selection: SelectionOptions
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                let answer = try await api.discard(try selection.selection())
                switch connection.output {
                case .json: Terminal.print(json: answer)
                case .table:
                    Terminal.print(
                        "\(answer.count) dead letters \(answer.dryRun ? "would be" : "were") discarded")
                }
            }
        }
    }
}

/// Which dead letters are meant, by what they are.
struct DeadLetterOptions: ParsableArguments {
    @Option(help: "Only those of this organization.") var organization: OrganizationID?
    @Option(help: "Only those of this job.") var job: JobID?
    @Option(help: "Only those of this reason: poison or attempts.") var reason: String?
    @Option(help: "Only those since this time, such as 2026-03-01T12:00:00Z.") var since: Instant?
}

/// Which dead letters are meant, by name or by what they are, and how sure the caller is.
struct SelectionOptions: ParsableArguments {
    @Argument(help: "Runs.") var runs: [RunID] = []
    @OptionGroup var filter: DeadLetterOptions
    @Flag(help: "Say what would be done, and do nothing.") var dryRun = false
    @Option(help: "How many dead letters these are.") var expect: Int?

    /// The selection, judged here as the server does.
    func selection() throws -> DeadLetterSelection {
        try DeadLetterSelection.decode(
            DeadLetterSelection(
                runIds: runs.isEmpty ? nil : runs, organizationId: filter.organization, jobId: filter.job,
                reason: filter.reason, since: filter.since, dryRun: dryRun, expectedCount: expect
            ).json)
    }
}
