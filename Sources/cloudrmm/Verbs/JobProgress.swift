import ArgumentParser
import Client
import Domain
import Foundation
import Outbound
import UnixSignals
import Wire

/// Follows one job to its end and prints what came of it.
struct JobProgress {
    /// How often in a row a broken stream is tried again, a second apart.
    static let triesMax = 30
    /// How many runs a summary lists.
    static let runsMax = 500

    let api: APIClient
    let job: JobID

    /// Shows progress until the job has ended, then its runs.
    /// - Throws: `Failure.Code.failedRuns` unless there are runs and every one succeeded.
    func follow(_ output: ConnectionOptions.Output) async throws {
        let ended = try await withThrowingTaskGroup(of: Job?.self) { group in
            group.addTask { try await watch() }
            group.addTask {
                for await _ in await UnixSignalsSequence(trapping: .sigint) { return nil }
                return nil
            }
            defer { group.cancelAll() }
            return try await group.next() ?? nil
        }
        Terminal.endProgress()
        guard let ended else {
            Terminal.complain(
                "the job goes on; `cloudrmm jobs watch \(job)` follows it, `jobs cancel` ends it"
            )
            throw ExitCode(130)
        }
        try await show(ended, output)
        let count = ended.counts.values.reduce(0, +)
        guard count > 0 else { throw Failure(.failedRuns, "no device ran it: the target has none") }
        guard ended.counts[RunState.succeeded.name] == count else { throw Failure(.failedRuns, "") }
    }

    private func watch() async throws -> Job {
        var shown = ""
        var tries = 0
        while true {
            do {
                for try await job in api.events(of: job) {
                    tries = 0
                    let line = "\(job.state.name): \(job.countsLine)"
                    if line != shown { Terminal.progress(line) }
                    shown = line
                    if job.state.isEnd { return job }
                }
            } catch let error as OutboundError where error.isTransient && tries < Self.triesMax {
                Terminal.progress("the connection broke; trying again")
                shown = ""
            }
            tries += 1
            guard tries <= Self.triesMax else {
                throw Failure(.unreachable, "the API ended the stream again and again")
            }
            try await Task.sleep(for: .seconds(1))
        }
    }

    private func show(_ ended: Job, _ output: ConnectionOptions.Output) async throws {
        var runs: [Run] = []
        var cursor: String?
        repeat {
            let page = try await api.runs(of: job, PageOptions(limit: Limits.page.upperBound, cursor: cursor))
            runs += page.items
            cursor = page.next
        } while cursor != nil && runs.count < Self.runsMax
        let only = runs.count == 1 ? try await api.output(of: runs[0].id) : nil
        switch output {
        case .json:
            var writer = JSONWriter()
            writer.object { writer in
                writer.field("job", ended)
                writer.field("runs", runs)
                writer.field("output", only)
            }
            Terminal.print(String(decoding: writer.bytes, as: UTF8.self))
        case .table:
            if let only {
                Terminal.print(stdout: only.stdout)
                Terminal.print(stderr: only.stderr)
                if let reason = runs[0].reason, runs[0].state != .succeeded {
                    Terminal.complain(Terminal.harmless(reason))
                }
            } else {
                try await showSummary(of: runs)
            }
        }
    }

    private func showSummary(of runs: [Run]) async throws {
        var table = Table("DEVICE", "STATE", "EXIT", "RUN", "REASON")
        for run in runs {
            table.add(
                run.deviceId.description, run.state.name, run.exitCode.map(String.init) ?? "–",
                run.id.description,
                run.reason ?? "")
        }
        table.print()
        if runs.count >= Self.runsMax {
            Terminal.complain("`cloudrmm runs list \(job) --limit N` lists more runs")
        }
    }
}
