import Access
import Domain
import Engine
import HTTPTypes
import Ledger
import Wire

extension Handlers {
    var queueRoutes: [Route] {
        [
            .get("/v1/queues", "Lists the queues", .permitted(.queuesRead)) {
                (call: Call, query: QueueQuery) in
                let rows = try await queues.queues(
                    after: query.cursor?.last, limit: query.limit + 1, scope: call.scope)
                return query.page(try await rates.fill(rows))
            },
            .get(
                "/v1/queues/{id}", "Shows an organization's queues and what holds them back",
                .permitted(.queuesRead)
            ) {
                call in
                try await queue(of: call.id(), call)
            },
            .put(
                "/v1/queues/{id}/weight", "Sets an organization's share of the work", .permitted(.queuesWeigh)
            ) { (call: Call, new: NewWeight) in
                try await controls.weigh(call.id(), new.weight, level: call.level)
                return try await queue(of: call.id(), call)
            }.refusing(.conflict),
            .put(
                "/v1/queues/{id}/cap", "Limits how many runs of an organization are on devices",
                .permitted(.queuesWeigh)
            ) { (call: Call, new: NewCap) in
                try await controls.cap(call.id(), new.cap, level: call.level)
                return try await queue(of: call.id(), call)
            },
            .get(
                "/v1/queues/{id}/limits", "Shows an organization's limits by job, site, kind and device",
                .permitted(.queuesRead)
            ) { call in
                try await controls.limits(of: call.id(), level: call.level)
            },
            .put(
                "/v1/queues/{id}/limits",
                "Replaces an organization's limits by job, site, kind and device, and its rate",
                .permitted(.queuesWrite)
            ) { (call: Call, new: QueueLimits) in
                try await controls.limit(call.id(), new, level: call.level)
            },
            .get("/v1/queues/controls", "Lists the pauses and drains in force", .permitted(.queuesRead)) {
                (call: Call, query: PageQuery) in
                let rows = try await controls.controls(query.request, level: call.level)
                return query.page(rows, id: \.id.value) { $0 }
            },
            .post(
                "/v1/queues/pause", "Starts no more runs of what it names; no run starts after this answers",
                .permitted(.queuesWrite), status: .ok
            ) { (call: Call, request: ControlRequest) in
                let principal = try call.principal
                return try await controls.pause(request, by: principal.id, level: call.level)
            }.refusing(.conflict),
            .post(
                "/v1/queues/drain", "Refuses new jobs of what it names; what is queued runs to its end",
                .permitted(.queuesWrite), status: .ok
            ) { (call: Call, request: ControlRequest) in
                let principal = try call.principal
                return try await controls.drain(request, by: principal.id, level: call.level)
            }.refusing(.conflict),
            .post(
                "/v1/queues/resume", "Ends the pauses and drains of exactly what it names",
                .permitted(.queuesWrite), status: .ok
            ) { (call: Call, request: ResumeRequest) in
                let principal = try call.principal
                return LiftedControls(
                    lifted: try await controls.resume(request, by: principal.id, level: call.level))
            }.refusing(.conflict),
            .get("/v1/workers", "Lists the processes of the installation", .permitted(.queuesRead)) {
                (call: Call, query: PageQuery) in
                try Self.requirePlatform(call)
                let rows = try await ledger.workers(query.request, scope: call.scope)
                return query.page(rows, id: \.id.value, WorkerStatus.init)
            },
            .post(
                "/v1/workers/{id}/drain", "Lets a worker finish what it holds and claim nothing more",
                .permitted(.queuesWrite), status: .accepted, respond: drainWorker
            ).refusing(.conflict),
        ]
    }

    private func queue(of organization: OrganizationID, _ call: Call) async throws -> OrganizationQueues {
        guard let limits = try await ledger.limits(of: [organization], scope: call.scope).first else {
            throw Problem.notFound()
        }
        let rows = try await queues.queues(of: organization, scope: call.scope)
        let rate = try await rates.rates(of: [organization])[organization]
        let quota = try await ledger.openWork(of: [organization], scope: call.scope)[organization]
        let held = try await controls.controls(covering: organization, level: call.level)
        return OrganizationQueues(
            organizationId: organization, weight: limits.weight, share: rate?.share,
            entitlement: rate?.entitlement, startRate: rate?.startRate, drainRate: rate?.drainRate,
            cap: limits.cap, interactive: InteractiveBucket(limits).resolved,
            queues: try await rates.fill(rows), controls: held, quota: quota.map(QueueQuota.init))
    }

    @Sendable private func drainWorker(_ call: Call) async throws -> WorkerStatus {
        try Self.requirePlatform(call)
        let (id, principal) = (try call.id(WorkerID.self), try call.principal)
        if let row = try await ledger.requestDrain(of: id, by: principal.id, scope: call.scope) {
            return WorkerStatus(row)
        }
        guard let row = try await ledger.worker(id, scope: call.scope) else { throw Problem.notFound() }
        throw Problem(
            .conflict,
            row.role == "worker"
                ? "this worker is \(row.state.rawValue): it claims nothing any more"
                : "this is a role \(row.role), which claims nothing: stop it, and it ends in order")
    }

    /// Processes serve all tenants: they are the platform's to see and to drain.
    private static func requirePlatform(_ call: Call) throws {
        guard try call.level == .platform else {
            throw Problem(.forbidden, "only a key of the platform reaches the installation's workers")
        }
    }
}

extension WorkerStatus {
    init(_ row: WorkerRow) {
        self.init(
            id: row.id, role: row.role, host: row.host, processId: row.processID, startedAt: row.startedAt,
            seenAt: row.seenAt, state: row.state, tasks: row.tasks)
    }
}
