import Access
import Domain
import Engine
import HTTPTypes
import Ledger
import Logging
import Trust
import Wire

/// How work comes in: guarded by how far it reaches, and kept where it takes a second person.
extension Handlers {
    var approvals: Approvals { Approvals(authenticator) }

    // MARK: As routes

    @Sendable func submit(_ call: Call, _ new: NewJob) async throws -> Submitted {
        do {
            let job = try await submit(
                new, key: call.idempotencyKey, by: call.principal.id, call.level,
                secretsReach(of: call.principal), .said(new.confirmDevices))
            call.note(job)
            return .job(job)
        } catch let error as EngineError where error.code == .approvalRequired {
            return .approval(PendingApproval(try await ask(.job, call, because: error)))
        }
    }

    @Sendable func retry(_ call: Call) async throws -> Reply {
        let query = try call.query(RetryQuery.self, RetryQuery.shape(.none).fields)
        do {
            let principal = try call.principal
            let job = try await submitter.retry(
                call.id(), idempotencyKey: call.idempotencyKey, by: principal.id, level: call.level,
                secrets: secretsReach(of: principal), under: guarding(.said(query.confirmDevices)))
            call.note(job)
            return .json(Submitted.job(job), status: .accepted)
        } catch let error as EngineError where error.code == .approvalRequired {
            let row = try await ask(.retry, call, about: call.id(), because: error)
            return .json(Submitted.approval(PendingApproval(row)), status: .accepted)
        }
    }

    @Sendable func submitMany(_ call: Call, _ new: NewJobs) async throws -> BulkAnswer {
        let outcomes = try await submit(
            new, key: call.idempotencyKey, by: call.principal.id, call.level,
            secretsReach(of: call.principal), .said(new.confirmDevices))
        // What is kept for a second person is the whole body, so none of it may lack a second factor then.
        let waits = outcomes.contains { ($0.refusal as? EngineError)?.code == .approvalRequired }
        for case .failure(let error as EngineError) in outcomes
        where error.code == .confirmationRequired || (waits && error.code == .stepUpRequired) {
            throw error
        }
        // The guard judges all of them together, so they wait together.
        var waiting: ApprovalRow?
        var items: [BulkItem] = []
        for outcome in outcomes {
            switch outcome {
            case .success(let job):
                call.note(job)
                items.append(BulkItem(status: HTTPResponse.Status.accepted.code, id: job.id))
            case .failure(let error as EngineError) where error.code == .approvalRequired:
                let row = if let waiting { waiting } else { try await ask(.bulk, call, because: error) }
                waiting = row
                items.append(BulkItem(status: HTTPResponse.Status.accepted.code, approvalId: row.id))
            case .failure(let error): items.append(BulkItem(refused: error, call))
            }
        }
        return BulkAnswer(items: items)
    }

    // MARK: Whoever asks, now or later

    /// The guard of what some organizations belong to.
    func guarding(_ word: SubmissionGuard.Word, field: String = "confirmDevices") -> SubmissionGuard {
        SubmissionGuard(word, field: field) { organizations in
            guard let level = Level(organizations: organizations) else { return Guards.builtIn }
            let judged = try await authenticator.guards.rules(on: level)
            guard !judged.isAltered else {
                throw EngineError(
                    .alteredRow,
                    "the guard of its partner was altered or taken away outside the API, so nothing is "
                        + "submitted until somebody sets it anew")
            }
            return judged.rules
        }
    }

    /// Where a principal may use secrets in what it submits now.
    func secretsReach(of principal: Principal) -> Submitter.SecretsReach {
        {
            guard let level = principal.reach[.secretsUse] else { return nil }
            do {
                try await authenticator.guards.requireFresh(for: .secretsUse, by: principal)
            } catch let error as AccessError where error.code == .stepUpRequired {
                throw EngineError(.stepUpRequired, field: "script.secrets", error.message)
            }
            return level
        }
    }

    private func submit(
        _ new: NewJob, key: String?, by principal: PrincipalID, _ level: Level,
        _ secrets: @escaping Submitter.SecretsReach, _ word: SubmissionGuard.Word
    ) async throws -> AcceptedJob {
        let outcomes = try await submitter.submit(
            [JobRequest(new, key: key)], by: principal, level: level, secrets: secrets,
            under: guarding(word))
        return try outcomes[0].get()
    }

    /// Each job of a bulk with an outcome of its own, in order.
    private func submit(
        _ new: NewJobs, key: String?, by principal: PrincipalID, _ level: Level,
        _ secrets: @escaping Submitter.SecretsReach, _ word: SubmissionGuard.Word
    ) async throws -> [Result<AcceptedJob, any Error>] {
        var refused: [(any Error)?] = []
        var requests: [JobRequest] = []
        for (index, value) in new.jobs.enumerated() {
            do throws(FieldError) {
                let job = try NewJob.read(value, .none, field: "jobs[\(index)]")
                guard job.confirmDevices == nil else {
                    throw FieldError(
                        .invalid, field: "jobs[\(index)].confirmDevices",
                        "stands at the top of a bulk, for all of its jobs together")
                }
                refused.append(nil)
                requests.append(JobRequest(job, key: key.map { "\($0)#\(index)" }))
            } catch {
                refused.append(error)
            }
        }
        var rest: ArraySlice<Result<AcceptedJob, EngineError>> = []
        if !requests.isEmpty {
            rest = try await submitter.submit(
                requests, by: principal, level: level, secrets: secrets, under: guarding(word))[...]
        }
        return refused.map { refusal in
            refusal.map { .failure($0) } ?? rest.removeFirst().mapError { $0 }
        }
    }

    // MARK: A second person

    /// Keeps what was sent until a second person decides.
    private func ask(
        _ kind: ApprovalKind, _ call: Call, about subject: JobID? = nil, because refusal: EngineError
    ) async throws -> ApprovalRow {
        guard let reach = refusal.reach else { throw refusal }
        let row = try await approvals.ask(
            kind, body: call.body, about: subject, idempotencyKey: call.idempotencyKey,
            devices: reach.devices, organizations: reach.organizations, site: reach.site, by: call.principal)
        guard row.kind == kind, row.body == call.body, row.subject == subject else {
            throw EngineError(
                .idempotencyConflict, field: "Idempotency-Key", "this key was used before with another body")
        }
        return row
    }

    /// Approves what waits, and submits it in the name of who asked.
    func approve(_ call: Call) async throws -> Approval {
        let (row, asker, level) = try await approvals.approve(call.id(), by: call.principal)
        do {
            let job = try await submit(row, by: asker, level)
            call.note(job)
            return try Approval(await approvals.note(row, job: job.id, refusal: nil))
        } catch {
            let problem = Problem.of(error) ?? .unexpected
            _ = try await approvals.note(row, job: nil, refusal: problem.code)
            throw error
        }
    }

    private func submit(
        _ row: ApprovalRow, by asker: Principal, _ level: Level
    ) async throws -> AcceptedJob {
        let word = SubmissionGuard.Word.approved(row.devices)
        // The second factor that this may take was shown when it was asked for.
        let secrets: Submitter.SecretsReach = { asker.reach[.secretsUse] }
        switch row.kind {
        case .job:
            return try await submit(
                NewJob.decode(row.body), key: row.idempotencyKey, by: asker.id, level, secrets, word)
        case .bulk:
            let outcomes = try await submit(
                NewJobs.decode(row.body), key: row.idempotencyKey, by: asker.id, level, secrets, word)
            // Each has an outcome of its own; what was accepted is not undone by what was not.
            let accepted = outcomes.lazy.compactMap { try? $0.get() }  // a refusal is told below
            if let first = accepted.first { return first }
            return try outcomes[0].get()
        case .retry:
            guard let job = row.subject else { throw AccessError.nothingHere }
            return try await submitter.retry(
                job, idempotencyKey: row.idempotencyKey, by: asker.id, level: level,
                secrets: secrets, under: guarding(word))
        }
    }
}

extension Result {
    /// Why there is no value.
    fileprivate var refusal: Failure? {
        guard case .failure(let error) = self else { return nil }
        return error
    }
}

extension SubmissionGuard.Word {
    /// What the field of a body says.
    static func said(_ devices: Int?) -> SubmissionGuard.Word { devices.map { .confirmed($0) } ?? .none }
}

extension JobRequest {
    /// What a body asks for. That a number was confirmed is no part of what is asked: who asks again with
    /// another, once there are more devices, asks for the same.
    fileprivate init(_ new: NewJob, key: String?) {
        var job = new
        job.confirmDevices = nil
        self.init(job: job, idempotencyKey: key, requestHash: SHA256.hash(job.json))
    }
}

extension PendingApproval {
    /// A row of approvals.
    fileprivate init(_ row: ApprovalRow) {
        self.init(id: row.id, state: row.state, devices: row.devices, expiresAt: row.expiresAt)
    }
}

extension Call {
    /// Says that a job was taken, by the request and its trace.
    func note(_ job: AcceptedJob) {
        guard log.base.logLevel <= .debug else { return }
        logger.debug("job accepted", metadata: ["job.id": "\(job.id)", "state": "\(job.state.name)"])
    }
}

extension BulkItem {
    /// The item of an element that was refused.
    init(refused error: any Error, _ call: Call) {
        let problem = Problem.of(error) ?? .unexpected
        if problem.status == Problem.unexpected.status {
            call.logger.error(
                "a job of a bulk submission failed unexpectedly", metadata: ["error": "\(error)"])
        }
        self.init(status: problem.status, problem: problem)
    }
}
