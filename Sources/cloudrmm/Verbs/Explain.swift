import ArgumentParser
import Client
import Domain
import Wire

extension Jobs {
    struct Explain: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Say what a job's runs wait for, the commonest first.")
        @Argument(help: "The job's id.") var id: JobID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                let job = try await api.explain(id)
                if connection.output == .table { Terminal.print(Terminal.harmless(job.sentence)) }
                guard connection.output == .json || !job.groups.isEmpty else { return }
                if connection.output == .json { return Terminal.print(json: job) }
                connection.show(job.groups, Table("RUNS", "WAIT FOR", "FIRST RUN", "OF WHICH")) {
                    table, group in
                    table.add(
                        "\(group.count)", group.waitsFor.rawValue, group.runId.description, group.sentence)
                }
            }
        }
    }
}

extension Runs {
    struct Explain: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Say what a run waits for, and why.")
        @Argument(help: "The run's id.") var id: RunID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                let run = try await api.explain(id)
                if connection.output == .json { return Terminal.print(json: run) }
                for line in run.lines { Terminal.print(Terminal.harmless(line)) }
            }
        }
    }
}

extension ExplainedRun {
    /// The sentence, and under it what it does not say.
    var lines: [String] {
        var lines = [sentence]
        if !alsoWaitsFor.isEmpty {
            let also = alsoWaitsFor.map(\.rawValue).joined(separator: ", ")
            lines.append("After that it would wait for: \(also)")
        }
        if let position {
            lines.append(
                positionIsExact == false
                    ? "more than \(position - 1) runs are in front of it" : "position \(position)")
        }
        if let estimatedStart { lines.append("estimated start \(estimatedStart)") }
        if let since { lines.append("since \(since)") }
        lines.append("state \(state.name), expires \(facts.expiresAt)")
        return lines
    }
}
