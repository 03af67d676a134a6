package import Domain
import Ledger
package import Postgres
package import Wire

/// Cancels: what was not sent ends now, agents that hold the rest are told. PostgreSQL decides; what dies
/// after its commit is found by the reconciler.
extension Submitter {
    /// Asks for a job to be cancelled.
    package func cancel(_ job: JobID, scope: Scope) async throws {
        guard let organization = try await requestCancel(job, scope: scope) else {
            throw EngineError(.notFound, "there is no job with this id")
        }
        try await cancelRuns(of: job, organization: organization, scope: scope)
        await front.offer(all: [organization])
    }

    /// Asks for one run to be cancelled.
    package func cancel(_ run: RunID, scope: Scope) async throws {
        switch try await ledger.cancelRun(run, scope: scope) {
        case .ended(let run):
            await front.ended([run])
            await front.offer(all: [run.organization])
        case .asked(let run): await front.tellCancelled([run])
        case .over(let state):
            throw EngineError(.conflict, "the run has ended already: it is \(state.name)")
        case .ofUnseenJob:
            throw EngineError(.forbidden, "the run is of a job that this key does not see")
        case nil: throw EngineError(.notFound, "there is no run with this id")
        }
    }

    /// Asks for all open jobs that a filter finds to be cancelled, or says how many they are.
    ///
    /// Above `Limits.uncountedCancelsMax` the caller says exactly how many he means, so that what he saw is
    /// what he cancels. A job that ends meanwhile stays as it ended and is counted as such.
    package func cancel(_ request: CancelRequest, scope: Scope) async throws -> CancelledJobs {
        let max = Limits.cancelledJobsMax
        let jobs = try await ledger.openJobs(request.filter, limit: max + 1, scope: scope)
        guard jobs.count <= max else {
            throw EngineError(
                .invalid, field: request.scopeField,
                "matches more than \(max) open jobs, which is the limit; narrow it by kind, priority, state "
                    + "or time")
        }
        if request.dryRun { return CancelledJobs(matched: jobs.count, dryRun: true) }
        guard !jobs.isEmpty else {
            throw EngineError(
                .notFound, field: request.scopeField,
                "matches no open job that is not being cancelled already")
        }
        try Self.judge(request.expectedCount, found: jobs.count)
        var asked = try await ledger.requestCancels(jobs, scope: scope)
        for job in jobs where !asked.contains(job.id) {
            do {
                if try await requestCancel(job.id, scope: scope) != nil { asked.insert(job.id) }
            } catch let error as EngineError where error.code == .conflict {
                // It has ended meanwhile.
                continue
            }
        }
        try await cancelRuns(of: nil, organization: request.filter.organization, scope: scope)
        await front.offer(all: Array(Set(jobs.map(\.organization))))
        return CancelledJobs(matched: jobs.count, cancelled: asked.count, ended: jobs.count - asked.count)
    }

    private static func judge(_ expected: Int?, found: Int) throws(EngineError) {
        if let expected, expected != found {
            throw EngineError(
                .conflict, field: "expectedCount",
                "is \(expected), but \(found) open jobs match; nothing was cancelled")
        }
        if expected == nil, found > Limits.uncountedCancelsMax {
            throw EngineError(
                .invalid, field: "expectedCount",
                "is missing: \(found) open jobs match, and above \(Limits.uncountedCancelsMax) the exact "
                    + "number must be given; dryRun tells it")
        }
    }

    private func requestCancel(_ job: JobID, scope: Scope) async throws -> OrganizationID? {
        do {
            return try await ledger.requestCancel(job, scope: scope)
        } catch let error as LedgerError where error.code == .conflict {
            throw EngineError(.conflict, error.message)
        }
    }

    /// Ends and asks chunk by chunk; what is left after so many is the reconciler's.
    func cancelRuns(of job: JobID?, organization: OrganizationID?, scope: Scope) async throws {
        for _ in 0..<Self.cancelRoundsMax {
            let (ended, sent) = try await ledger.cancelRuns(of: job, organization: organization, scope: scope)
            guard !ended.isEmpty || !sent.isEmpty else { return }
            await front.ended(ended)
            await front.tellCancelled(sent)
        }
    }

    // Chunks of 500: as many runs as jobs that one call may cancel.
    private static var cancelRoundsMax: Int { 20 }
}

extension CancelRequest {
    /// What it means, as the ledger is asked for it.
    fileprivate var filter: JobFilter {
        var filter = JobFilter()
        (filter.organization, filter.site) = (organizationId, siteId)
        (filter.kind, filter.priority, filter.state) = (kind, priority, state)
        (filter.createdAfter, filter.createdBefore) = (createdAfter, createdBefore)
        return filter
    }
}
