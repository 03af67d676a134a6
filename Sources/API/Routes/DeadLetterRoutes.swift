import Access
import Domain
import Engine
import HTTPTypes
import Ledger
import Postgres
import Wire

extension Handlers {
    var deadLetterRoutes: [Route] {
        [
            .get(
                "/v1/dead-letters", "Lists runs of which nothing more is tried, newest first",
                .permitted(.jobsRead),
                respond: deadLetters),
            .get(
                "/v1/dead-letters/{id}", "Shows a dead letter with the evidence of its attempts",
                .permitted(.jobsRead),
                respond: deadLetter),
            .post(
                "/v1/dead-letters/redrive", "Repeats dead letters by newly signed jobs", .permitted(.jobsRun),
                status: .accepted, respond: redrive
            ).refusing(
                .conflict, .draining, .quotaExceeded, .overloaded, .confirmationRequired, .approvalRequired),
            .post(
                "/v1/dead-letters/discard", "Takes dead letters off the list", .permitted(.jobsCancel),
                status: .ok, respond: discard
            ).refusing(.conflict),
        ]
    }

    @Sendable private func deadLetters(
        _ call: Call, _ query: DeadLetterQuery
    ) async throws -> Page<DeadLetter> {
        var filter = DeadLetterFilter()
        (filter.organization, filter.job, filter.since) = (query.organizationId, query.jobId, query.since)
        filter.reason = try DeadLetterReason.of(query.reason)
        let rows = try await ledger.deadLetters(
            filter, before: query.page.cursor.map { RunID($0.last) }, limit: query.page.request.limit,
            scope: call.scope)
        return query.page.page(rows, id: \.run.id.value, DeadLetter.init)
    }

    @Sendable private func deadLetter(_ call: Call) async throws -> DeadLetterDetail {
        var filter = DeadLetterFilter()
        filter.runs = [try call.id()]
        guard let row = try await ledger.deadLetters(filter, limit: 1, scope: call.scope).first else {
            throw Problem.notFound()
        }
        // The letter was seen in the caller's scope. A site's scope has no evidence of its own, so it is read
        // by the organization's.
        let scope = Scope.organization(row.run.organization)
        let attempts = try await ledger.attempts(
            of: row.run.id, organization: row.run.organization, scope: scope)
        let crashes = try await ledger.crashes(
            of: row.run.id, organization: row.run.organization, scope: scope)
        return DeadLetterDetail(
            letter: DeadLetter(row), attempts: attempts.map(AttemptEvidence.init) + [.last(of: row.run)],
            crashes: crashes.map { CrashEvidence(at: $0.at, attempt: $0.attempt, owner: $0.owner) })
    }

    @Sendable private func redrive(
        _ call: Call, _ selection: DeadLetterSelection
    ) async throws -> DeadLetterAnswer {
        let principal = try call.principal
        let letters = try await submitter.letters(selection, scope: call.scope)
        guard !selection.dryRun else {
            let jobs = Dictionary(grouping: letters, by: \.run.job).sorted { $0.key < $1.key }
            return DeadLetterAnswer(
                count: letters.count, dryRun: true,
                jobs: jobs.map { RedrivenJob(retryOf: $0.key, runs: $0.value.count) })
        }
        // Whoever has said how many letters they are has said how far it reaches.
        let devices = Set(letters.map(\.run.device)).count
        let outcomes = try await submitter.redrive(
            letters, by: principal.id, level: call.level, secrets: secretsReach(of: principal),
            under: guarding(
                selection.expectedCount == nil ? .none : .confirmed(devices), field: "expectedCount"))
        return DeadLetterAnswer(
            count: letters.count, dryRun: false,
            jobs: outcomes.map { outcome in
                switch outcome.outcome {
                case .success(let job):
                    RedrivenJob(retryOf: outcome.retryOf, runs: outcome.runs, id: job.id)
                case .failure(let error):
                    RedrivenJob(
                        retryOf: outcome.retryOf, runs: outcome.runs,
                        problem: Problem.of(error) ?? .unexpected)
                }
            })
    }

    @Sendable private func discard(
        _ call: Call, _ selection: DeadLetterSelection
    ) async throws -> DeadLetterAnswer {
        let letters = try await submitter.letters(selection, scope: call.scope)
        let count =
            selection.dryRun ? letters.count : try await submitter.discard(letters, scope: call.scope)
        return DeadLetterAnswer(count: count, dryRun: selection.dryRun)
    }
}

extension DeadLetter {
    init(_ row: DeadLetterRow) {
        self.init(
            run: Run(row.run), organizationId: row.run.organization, reason: row.reason.rawValue,
            since: row.since)
    }
}

extension AttemptEvidence {
    init(_ row: AttemptRow) {
        self.init(
            attempt: row.attempt, outcome: row.outcome, exitCode: row.exitCode, reason: row.reason,
            startedAt: row.startedAt, finishedAt: row.finishedAt, kind: row.kind)
    }

    /// The attempt that a run ended with.
    static func last(of run: RunRow) -> AttemptEvidence {
        AttemptEvidence(
            attempt: run.attempt, outcome: Outcome(rawValue: run.state.rawValue) ?? .unknown,
            exitCode: run.exitCode, reason: run.reason, startedAt: run.startedAt, finishedAt: run.finishedAt,
            kind: "last")
    }
}
