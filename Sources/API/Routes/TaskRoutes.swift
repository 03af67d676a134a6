import Access
import Domain
import Engine
import HTTPTypes
import Ledger
import Wire

extension Handlers {
    /// Calls about the platform's own work, and for how long what has ended is kept.
    var taskRoutes: [Route] {
        [
            .get("/v1/tasks", "Lists the platform's own work, oldest first", .permitted(.jobsRead)) {
                (call: Call, query: TaskQuery) in
                let rows = try await ledger.tasks(query.filter(), query.page.request, scope: call.scope)
                return query.page.page(rows, id: \.id.value, PlatformTask.init)
            },
            .get("/v1/tasks/{id}", "Shows a task", .permitted(.jobsRead)) { call in
                PlatformTask(try await task(call.id(), call))
            },
            .post(
                "/v1/tasks/{id}/cancel", "Ends a task that no worker has, or tells the worker that has it",
                .permitted(.jobsCancel), status: .accepted
            ) { call in
                guard let row = try await tasks.cancel(call.id(), scope: call.scope) else {
                    throw Problem.notFound()
                }
                return PlatformTask(row)
            }.refusing(.conflict),
            .post(
                "/v1/tasks/{id}/retry", "Repeats a task that ended and failed, as a new one",
                .permitted(.jobsRun),
                status: .accepted
            ) { call in
                guard let new = try await tasks.retry(call.id(), scope: call.scope) else {
                    throw Problem.notFound()
                }
                return PlatformTask(try await task(new, call))
            }.refusing(.conflict),
            .get(
                "/v1/organizations/{id}/retention", "Says for how many days what has ended is kept",
                .permitted(.organizationsRead), respond: retention),
            .put(
                "/v1/organizations/{id}/retention", "Sets for how many days what has ended is kept",
                .permitted(.organizationsWrite)
            ) { (call: Call, new: NewRetention) in
                let id = try call.id(OrganizationID.self)
                // What is removed is gone: also whoever changed rows in the database may not name the tenant.
                try await controls.require(id, call.level)
                guard try await ledger.setRetentionDays(new.days, of: id, scope: call.scope) else {
                    throw Problem.notFound()
                }
                return try await retention(call)
            }.refusing(.conflict),
        ]
    }

    private func task(_ id: TaskID, _ call: Call) async throws -> TaskRow {
        guard let row = try await ledger.task(id, scope: call.scope) else { throw Problem.notFound() }
        return row
    }

    @Sendable private func retention(_ call: Call) async throws -> Retention {
        let id = try call.id(OrganizationID.self)
        guard let days = try await ledger.retentionDays(of: id, scope: call.scope) else {
            throw Problem.notFound()
        }
        return Retention(organizationId: id, days: days ?? retentionDays, isDefault: days == nil)
    }
}

/// The query of the list of tasks.
struct TaskQuery: WireObject {
    var page: PageQuery
    var organizationId: OrganizationID?
    var kind: String?
    var state: TaskState?

    init(from reader: inout FieldReader) throws(FieldError) {
        organizationId = try reader.optional("organizationId")
        kind = try reader.optional("kind", String.self, .in(1...64))
        state = try reader.optional("state")
        page = try PageQuery(from: &reader)
    }

    func fields(to writer: inout JSONWriter) {
        writer.field("organizationId", organizationId)
        writer.field("kind", kind)
        writer.field("state", state)
        page.fields(to: &writer)
    }

    /// Which tasks it means; refuses a kind that there is not.
    func filter() throws -> TaskFilter {
        var filter = TaskFilter(organization: organizationId, state: state)
        if let kind {
            guard let known = TaskKind(name: kind) else {
                let allowed = TaskKind.all.map(\.name).joined(separator: ", ")
                throw EngineError(.invalid, field: "kind", "is \"\(kind)\"; allowed are: \(allowed)")
            }
            filter.kind = known
        }
        return filter
    }
}

extension PlatformTask {
    init(_ row: TaskRow) {
        self.init(
            id: row.id, organizationId: row.organization, kind: row.kind, state: row.state,
            priority: row.priority, createdAt: row.createdAt, expiresAt: row.expiresAt)
        (reason, attempt, failures) = (row.reason, row.attempt, row.failures)
        (maximumAttempts, crashes, workerId) = (row.maximumAttempts, row.crashes, row.worker)
        (key, retryOf, dueAt) = (row.key, row.retryOf, row.dueAt)
        (startedAt, finishedAt, cancelRequestedAt) = (row.startedAt, row.finishedAt, row.cancelRequestedAt)
    }
}
