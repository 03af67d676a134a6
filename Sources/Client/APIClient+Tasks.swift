package import Domain
package import Wire

/// The platform's own work.
extension APIClient {
    /// One page of tasks, oldest first.
    package func tasks(
        organization: OrganizationID? = nil, kind: String? = nil, state: TaskState? = nil,
        _ page: PageOptions = PageOptions()
    ) async throws -> Page<PlatformTask> {
        try await get(
            "/v1/tasks",
            [
                ("organizationId", organization?.description), ("kind", kind), ("state", state?.name),
            ] + page.parameters)
    }

    /// One task.
    package func task(_ id: TaskID) async throws -> PlatformTask { try await get("/v1/tasks/\(id)") }

    /// Asks for a task to be cancelled.
    package func cancel(_ task: TaskID) async throws -> PlatformTask {
        try await post("/v1/tasks/\(task)/cancel")
    }

    /// Repeats a task that failed, as a new one.
    package func retry(_ task: TaskID) async throws -> PlatformTask {
        try await post("/v1/tasks/\(task)/retry")
    }

    /// For how many days an organization keeps what has ended.
    package func retention(of organization: OrganizationID) async throws -> Retention {
        try await get("/v1/organizations/\(organization)/retention")
    }

    /// Sets it.
    package func keep(_ organization: OrganizationID, _ new: NewRetention) async throws -> Retention {
        try await put("/v1/organizations/\(organization)/retention", new)
    }
}
