import ArgumentParser
import Client
import Domain
import Wire

extension Jobs {
    /// `cloudrmm jobs cancel …`
    struct Cancel: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Ask for a job to be cancelled, or for all that a filter finds.",
            discussion: """
                Either a job's id, or one of --organization, --site and --all with what narrows it down. \
                --dry-run tells how many jobs match; above \(Limits.uncountedCancelsMax) that number must be \
                given as --expected-count.
                """)
        @Argument(help: "The job's id.") var id: JobID?
        @Option(help: "The organization whose open jobs are meant.") var organization: OrganizationID?
        @Option(help: "The site whose open jobs are meant.") var site: SiteID?
        @Flag(help: "Those of all organizations that the key sees.") var all = false
        @Option(help: "Only this kind: script, ping or sysinfo.") var kind: JobKind?
        @Option(help: "Only this priority: interactive, standard or bulk.") var priority: Priority?
        @Option(help: "Only this state: accepted, active or paused.") var state: JobState?
        @Option(help: "Only those submitted after this time.") var createdAfter: Instant?
        @Option(help: "Only those submitted before this time.") var createdBefore: Instant?
        @Flag(help: "Only say how many match.") var dryRun = false
        @Option(help: "How many there must be, exactly.") var expectedCount: Int?
        @OptionGroup var connection: ConnectionOptions

        /// What the filter's options say; `nil` if there are none.
        func request() throws -> CancelRequest? {
            let scopes = [organization != nil, site != nil, all].count(where: \.self)
            let narrows =
                kind != nil || priority != nil || state != nil || createdAfter != nil || createdBefore != nil
                || dryRun || expectedCount != nil
            guard id == nil || scopes == 0 && !narrows else {
                throw Failure(.usage, "a job's id stands alone, without the options of a filter")
            }
            if id != nil { return nil }
            guard scopes == 1 else {
                throw Failure(.usage, "name a job's id, or one of --organization, --site and --all")
            }
            var request = CancelRequest(organization: organization, site: site)
            (request.kind, request.priority, request.state) = (kind, priority, state)
            (request.createdAfter, request.createdBefore) = (createdAfter, createdBefore)
            (request.dryRun, request.expectedCount) = (dryRun, expectedCount)
            return request
        }

        func run() async throws {
            try await operate(connection) { api in
                if let request = try request() {
                    let answer = try await api.cancel(request)
                    return connection.show(answer, answer.line)
                }
                guard let id else { return }
                connection.show(
                    try await api.cancel(id),
                    "cancel is asked for; `cloudrmm jobs watch \(id)` shows how it ends")
            }
        }
    }

    /// `cloudrmm jobs pause …`
    struct Pause: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Start no more runs of a job.", discussion: "What runs already goes on.")
        @Argument(help: "The job's id.") var id: JobID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                let job = try await api.pause(id)
                connection.show(job, "\(job.state.name): \(job.countsLine)")
            }
        }
    }

    /// `cloudrmm jobs resume …`
    struct Resume: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Let a paused job go on.")
        @Argument(help: "The job's id.") var id: JobID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                let job = try await api.resume(id)
                connection.show(job, "\(job.state.name): \(job.countsLine)")
            }
        }
    }
}

extension Runs {
    /// `cloudrmm runs cancel …`
    struct Cancel: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Ask for a run to be cancelled.",
            discussion: "A run that was not sent ends at once; an agent that has it is told to stop it.")
        @Argument(help: "The run's id.") var id: RunID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                let run = try await api.cancel(id)
                connection.show(run, run.state.isOutcome ? run.state.name : "cancel is asked for")
            }
        }
    }
}

extension ConnectionOptions {
    /// Prints an answer, or a line in its place.
    fileprivate func show(_ answer: some WireObject, _ line: String) {
        switch output {
        case .json: Terminal.print(json: answer)
        case .table: Terminal.print(line)
        }
    }
}

extension CancelledJobs {
    /// `12 jobs match`, or what became of them.
    fileprivate var line: String {
        if dryRun { return "\(matched) jobs match" }
        return "cancel is asked for \(cancelled) jobs" + (ended > 0 ? "; \(ended) had ended before" : "")
    }
}

extension JobState: ExpressibleByArgument {
    /// The state of a word.
    init?(argument: String) { self.init(name: argument) }
}
