import Access
import Domain
import HTTPTypes
import Ledger
import Wire

extension Handlers {
    var jobRoutes: [Route] {
        [
            .post(
                "/v1/jobs",
                "Submits a job; it is committed, or kept until a second person approves it, when this "
                    + "answers", .permitted(.jobsRun), status: .accepted, takesIdempotencyKey: true,
                respond: submit
            ).refusing(
                .uniqueConflict, .draining, .quotaExceeded, .overloaded, .conflict, .confirmationRequired),
            .post(
                "/v1/jobs/bulk", "Submits many jobs; each has an outcome of its own, in order",
                .permitted(.jobsRun),
                status: HTTPResponse.Status(code: 207, reasonPhrase: "Multi-Status"),
                bytesMax: Limits.bulkBodyBytesMax, takesIdempotencyKey: true, respond: submitMany
            ).refusing(.overloaded, .confirmationRequired, .idempotencyConflict),
            .get("/v1/jobs", "Lists jobs, newest first", .permitted(.jobsRead), respond: jobs),
            .get("/v1/jobs/{id}", "Shows a job with its runs counted by state", .permitted(.jobsRead)) {
                call in
                Job(try await job(call))
            },
            .get("/v1/jobs/{id}/runs", "Lists the runs of a job", .permitted(.jobsRead), respond: runs),
            Route(
                method: .get, path: "/v1/jobs/{id}/events",
                summary: "Streams the job at once and at each change until it has ended",
                caller: .permitted(.jobsRead),
                status: .ok, answer: .events(Job.shape(.none)), respond: watch
            ).refusing(.tooManyStreams),
            Route(
                method: .post, path: "/v1/jobs/{id}/retry",
                summary: "Repeats the runs that have ended and not succeeded, by a newly signed job",
                caller: .permitted(.jobsRun), query: RetryQuery.shape(.none).fields,
                takesIdempotencyKey: true,
                status: .accepted, answer: .json(Submitted.shape(.none)), respond: retry
            ).refusing(
                .conflict, .uniqueConflict, .draining, .quotaExceeded, .overloaded, .confirmationRequired),
            .get("/v1/runs/{id}", "Shows a run", .permitted(.jobsRead)) { call in Run(try await run(call)) },
            .get("/v1/runs/{id}/output", "Shows what a run printed", .permitted(.jobsRead)) { call in
                let run = try await run(call)
                guard let output = try await ledger.output(of: run.id, scope: call.scope) else {
                    return RunOutput(stdout: "", stderr: "", stdoutBytes: 0, stderrBytes: 0, truncated: false)
                }
                return RunOutput(output)
            },
        ]
    }

    // MARK: Showing

    @Sendable private func jobs(_ call: Call, _ query: OrganizationQuery) async throws -> Page<Job> {
        let rows = try await ledger.jobs(
            organization: query.organizationId, before: query.page.cursor.map { JobID($0.last) },
            limit: query.page.request.limit, scope: call.scope)
        return query.page.page(rows, id: \.id.value, Job.init)
    }

    @Sendable private func runs(_ call: Call, _ query: PageQuery) async throws -> Page<Run> {
        let job = try await job(call)
        let rows = try await ledger.runs(
            of: job.id, after: query.cursor.map { RunID($0.last) }, limit: query.request.limit,
            scope: call.scope)
        return query.page(rows, id: \.id.value, Run.init)
    }

    @Sendable private func watch(_ call: Call) async throws -> Reply {
        try watches.reply(to: call, first: await job(call))
    }

    func job(_ call: Call) async throws -> JobRow {
        guard let row = try await watches.job(call.id(), scope: call.scope) else { throw Problem.notFound() }
        return row
    }

    func run(_ call: Call) async throws -> RunRow {
        guard let row = try await ledger.run(call.id(), scope: call.scope) else { throw Problem.notFound() }
        return row
    }
}

extension Job {
    init(_ row: JobRow) {
        self.init(
            id: row.id, organizationId: row.organization, kind: row.kind, priority: row.priority,
            state: row.state,
            counts: Dictionary(uniqueKeysWithValues: row.counts.map { ($0.key.name, $0.value) }),
            timeoutSeconds: row.timeoutSeconds, createdAt: row.createdAt, expiresAt: row.expiresAt,
            finishedAt: row.finishedAt, cancelRequestedAt: row.cancelRequestedAt)
        notBefore = row.notBefore
        retry = row.retry.maximumAttempts > 1 ? Retry(row.retry) : nil
        retries = row.retries
        retryOf = row.retryOf
        traceparent = row.trace?.traceparent
        devicesMax = row.devicesMax
        leftOut = row.leftOut
    }
}

extension Run {
    init(_ row: RunRow) {
        self.init(
            id: row.id, jobId: row.job, deviceId: row.device, state: row.state, attempt: row.attempt,
            exitCode: row.exitCode, startedAt: row.startedAt, finishedAt: row.finishedAt, reason: row.reason)
        dueAt = row.dueAt
    }
}

extension RunOutput {
    init(_ row: OutputRow) {
        let stdout = Self.text(row.stdoutHead, row.stdoutTail, count: row.stdoutBytes)
        let stderr = Self.text(row.stderrHead, row.stderrTail, count: row.stderrBytes)
        self.init(
            stdout: stdout.text, stderr: stderr.text, stdoutBytes: row.stdoutBytes,
            stderrBytes: row.stderrBytes,
            truncated: stdout.isCut || stderr.isCut)
    }

    /// Head and tail as text, with a line between them that says how much is missing.
    static func text(_ head: [UInt8], _ tail: [UInt8], count: Int) -> (text: String, isCut: Bool) {
        let missing = count - head.count - tail.count
        guard missing > 0 else { return (String(decoding: head + tail, as: UTF8.self), false) }
        let marker = "\n… \(missing) bytes left out …\n"
        return (String(decoding: head, as: UTF8.self) + marker + String(decoding: tail, as: UTF8.self), true)
    }
}
