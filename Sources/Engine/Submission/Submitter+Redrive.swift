package import Domain
package import Ledger
import Logging
package import Postgres
import Trust
package import Wire

/// What became of the dead letters of one job.
package struct Redriven: Sendable {
    /// The job, how many of its runs they are, and the job that repeats them.
    package let retryOf: JobID
    package let runs: Int
    package let outcome: Result<AcceptedJob, EngineError>
}

/// Work that is done again, always as a newly signed job: a statement's attempts are used up for good.
extension Submitter {
    /// The dead letters that a selection means, if there are neither none nor too many of them and their
    /// number is the one that was said.
    package func letters(
        _ selection: DeadLetterSelection, scope: Scope
    ) async throws -> [DeadLetterRow] {
        let letters = try await ledger.deadLetters(
            selection.filter(), limit: Limits.deadLettersMax + 1, scope: scope)
        if let runs = selection.runIds { try await require(runs, letters, scope) }
        guard !letters.isEmpty else {
            throw EngineError(.invalid, "no dead letter that you may see is meant by this selection")
        }
        guard letters.count <= Limits.deadLettersMax else {
            throw EngineError(
                .invalid,
                "more than \(Limits.deadLettersMax) dead letters are meant, which is the limit; narrow it")
        }
        guard !selection.dryRun else { return letters }
        if let expected = selection.expectedCount, expected != letters.count {
            throw EngineError(
                .conflict, field: "expectedCount",
                "is \(expected), but \(letters.count) dead letters are meant now; look again")
        }
        if selection.expectedCount == nil, letters.count > Limits.deadLettersUnsaidMax {
            throw EngineError(
                .invalid, field: "expectedCount",
                "is missing; \(letters.count) dead letters are meant, and more than "
                    + "\(Limits.deadLettersUnsaidMax) must be said exactly")
        }
        return letters
    }

    /// Each run that was named must be a dead letter; what else it is, is told.
    private func require(_ runs: [RunID], _ letters: [DeadLetterRow], _ scope: Scope) async throws {
        let dead = Set(letters.map(\.run.id))
        for (index, id) in runs.enumerated() where !dead.contains(id) {
            guard let run = try await ledger.run(id, scope: scope) else {
                throw EngineError(
                    .invalid, field: "runIds[\(index)]", "names no dead letter that you may see")
            }
            guard run.state.isOutcome else {
                throw EngineError(
                    .conflict, field: "runIds[\(index)]",
                    "names a living run: it is \(run.state.name), at attempt \(run.attempt)")
            }
            throw EngineError(
                .conflict, field: "runIds[\(index)]",
                "names a run that is no dead letter, or not any more: it ended as \(run.state.name)")
        }
    }

    /// Repeats dead letters by a new job for each of their jobs. A job and that its letters are dealt with
    /// are one commit, so no letter is redriven twice; each job has an outcome of its own.
    package func redrive(
        _ letters: [DeadLetterRow], by principal: PrincipalID, level: Level, secrets: @escaping SecretsReach,
        under guarded: SubmissionGuard
    ) async throws -> [Redriven] {
        var reach = SubmissionReach()
        reach.devices = Set(letters.map(\.run.device)).count
        reach.organizations = Set(letters.map(\.run.organization))
        try await guarded.require(reach)
        var jobs: [(job: JobID, letters: [DeadLetterRow])] = []
        for (job, letters) in Dictionary(grouping: letters, by: \.run.job).sorted(by: { $0.key < $1.key }) {
            jobs.append((job, letters.sorted { $0.run.id < $1.run.id }))
        }
        var outcomes: [Redriven] = []
        for (job, letters) in jobs {
            let runs = letters.map { RepeatableRun(run: $0.run.id, device: $0.run.device, isDead: true) }
            let outcome: Result<AcceptedJob, EngineError>
            do {
                let request = try await request(repeating: runs, of: job, key: nil, scope: level.scope)
                // All of them together were judged above.
                outcome = try await submit(
                    [request], by: principal, level: level, secrets: secrets, under: .none)[0]
            } catch let error as EngineError {
                outcome = .failure(error)
            }
            outcomes.append(Redriven(retryOf: job, runs: runs.count, outcome: outcome))
        }
        return outcomes
    }

    /// Nobody has to deal with these dead letters any more; returns how many of them there were still.
    package func discard(_ letters: [DeadLetterRow], scope: Scope) async throws -> Int {
        try await ledger.discard(letters.map(\.run.id), scope: scope).count
    }

    /// Repeats the runs of a job that have not succeeded and have ended.
    package func retry(
        _ job: JobID, idempotencyKey: String?, by principal: PrincipalID, level: Level,
        secrets: @escaping SecretsReach, under guarded: SubmissionGuard
    ) async throws -> AcceptedJob {
        guard let row = try await ledger.job(job, scope: level.scope) else {
            throw EngineError(.notFound, "there is no job with this id")
        }
        let runs = try await ledger.repeatableRuns(
            of: job, organization: row.organization, limit: Limits.deviceIDsMax + 1, scope: level.scope)
        guard !runs.isEmpty else {
            throw EngineError(
                .conflict,
                "no run of the job has failed, timed out or expired, so there is nothing to repeat")
        }
        guard runs.count <= Limits.deviceIDsMax else {
            throw EngineError(
                .invalid,
                "more than \(Limits.deviceIDsMax) runs of the job have failed, which a job's list may have")
        }
        let request = try await request(repeating: runs, of: job, key: idempotencyKey, scope: level.scope)
        return try await submit(
            [request], by: principal, level: level, secrets: secrets, under: guarded)[0].get()
    }

    /// What asks for some runs of a job again, with the content that was signed, as the signature has it:
    /// what stands in the database is believed no further than that.
    private func request(
        repeating runs: [RepeatableRun], of job: JobID, key: String?, scope: Scope
    ) async throws -> JobRequest {
        guard let row = try await ledger.job(job, scope: scope) else {
            throw EngineError(.notFound, "there is no job \(job) any more")
        }
        let place = (row.organization, job)
        guard let content = try await ledger.contents(of: [place])[job] else {
            throw EngineError(.notFound, "there is no job \(job) any more")
        }
        let payload = try payload(of: content, job, row.organization)
        var new = NewJob(
            kind: payload.kind, target: .devices(runs.map(\.device)), script: payload.script,
            timeoutSeconds: payload.timeoutSeconds,
            expiresInSeconds: Self.expiry(of: row), idempotent: payload.idempotent)
        new.priority = row.priority
        if payload.maximumAttempts > 1 {
            var policy = row.retry
            policy.maximumAttempts = payload.maximumAttempts
            if !payload.idempotent { policy.outcomes.remove(.unknown) }
            new.retry = Retry(policy)
        }
        var request = JobRequest(job: new, idempotencyKey: key, requestHash: SHA256.hash(new.json))
        request.retryOf = job
        request.redriven = runs.filter(\.isDead).map(\.run)
        return request
    }

    private func payload(
        of content: JobContent, _ job: JobID, _ organization: OrganizationID
    ) throws(EngineError) -> JobPayload {
        do {
            // It has expired perhaps; it must have held when its job was made.
            let statement = try SignedStatement(encoded: content.statement).verified(
                as: .job, by: signer.jobKeys, deployment: signer.deployment.bytes,
                now: job.value.createdAt.seconds, organization: organization.bytes)
            let payload = try JobPayload.decode(statement.payload)
            if payload.job == job { return payload }
        } catch {
            logger.warning(
                "a job's statement does not hold", metadata: ["job.id": "\(job)", "error": "\(error)"])
        }
        throw EngineError(
            .alteredRow,
            "the statement of job \(job) does not hold under a key in force; submit the work as a new job")
    }

    private static func expiry(of row: JobRow) -> Int {
        let seconds = Int((row.expiresAt - (row.notBefore ?? row.createdAt)) / .seconds(1))
        return min(max(seconds, Limits.expiresInSeconds.lowerBound), Limits.expiresInSeconds.upperBound)
    }
}

extension DeadLetterSelection {
    /// The filter; a reason that there is none of is refused.
    package func filter() throws(EngineError) -> DeadLetterFilter {
        var filter = DeadLetterFilter()
        (filter.runs, filter.organization, filter.job) = (runIds, organizationId, jobId)
        filter.reason = try DeadLetterReason.of(reason)
        filter.since = since
        return filter
    }
}

extension DeadLetterReason {
    /// The reason of a word; any other word is refused.
    package static func of(_ word: String?) throws(EngineError) -> DeadLetterReason? {
        guard let word else { return nil }
        guard let reason = DeadLetterReason(rawValue: word) else {
            throw EngineError(
                .invalid, field: "reason",
                "is \(printable(word)); allowed are: \(allCases.map(\.rawValue).joined(separator: ", "))")
        }
        return reason
    }
}
