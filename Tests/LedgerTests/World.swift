import Domain
import Postgres
import TestSupport
import Testing
import Trust

@testable import Ledger

extension World {
    /// Marks runs and hands them to their devices' connections.
    func send(_ runs: [QueuedRun]) async throws -> [MarkedRun] {
        let marked = try await mark(runs)
        try #require(marked.count == runs.count)
        let taken = try await gateway.take(marked.map { ($0.organization, $0.run, $0.token) })
        try #require(taken.count == runs.count)
        let byRun = Dictionary(grouping: marked, by: \.run)
        return runs.compactMap { byRun[$0.run]?.first }
    }

    /// Moves the expiry of runs, and the last moment of the device's word after it, into the past.
    func lapse(_ runs: [RunID]) async throws {
        try await owner.execute(
            """
            UPDATE runs SET expires_at = now() - interval '1 hour', deadline = now() - interval '1 second'
            WHERE id = ANY(\(runs))
            """, scope: .none)
    }

    /// Folds until nothing is left.
    func fold() async throws {
        while try await worker.foldDeltas(limit: 1_000) > 0 {}
    }
}

extension Ledger {
    /// Expands up to so many jobs to their end; returns the organizations of those that it brought there.
    func expand(limit: Int) async throws -> [OrganizationID] {
        var organizations: [OrganizationID] = []
        for job in try await unexpandedJobs(besides: [], limit: limit) {
            var expansion = Expansion.goesOn
            while expansion == .goesOn { expansion = try await expand((job.organization, job.id), chunk: 2) }
            if expansion == .whole { organizations.append(job.organization) }
        }
        return organizations
    }
}

extension AttemptResult {
    /// The agent's word about a marked run.
    init(
        _ run: MarkedRun, _ outcome: Outcome = .succeeded, exitCode: Int? = 0, reason: String? = nil,
        device: DeviceID? = nil, organization: OrganizationID? = nil, token: AttemptToken? = nil,
        output: String = "out"
    ) {
        self.init(
            organization: organization ?? run.organization, device: device ?? run.device, run: run.run,
            attempt: run.attempt, token: token ?? run.token, outcome: outcome, exitCode: exitCode,
            reason: reason, startedAt: now(), finishedAt: now(),
            output: OutputRow(
                stdoutHead: Array(output.utf8), stdoutTail: [], stdoutBytes: output.utf8.count,
                stderrHead: [], stderrTail: [], stderrBytes: 0))
    }
}

/// The time of this machine.
func now() -> Instant { .now() }

extension Settlement {
    /// Whether it ended its run.
    var isSettled: Bool {
        switch self {
        case .settled: true
        case .retried, .amended, .duplicate, .late, .foreign: false
        }
    }

    /// Whether its run is scheduled for another attempt.
    var isRetried: Bool { if case .retried = self { true } else { false } }
}
