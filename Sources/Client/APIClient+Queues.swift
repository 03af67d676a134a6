package import Domain
package import Wire

extension APIClient {
    /// One page of queues.
    package func queues(_ page: PageOptions = PageOptions()) async throws -> Page<QueueStatus> {
        try await get("/v1/queues", page.parameters)
    }

    /// How one organization stands.
    package func queue(of organization: OrganizationID) async throws -> OrganizationQueues {
        try await get("/v1/queues/\(organization)")
    }

    /// Sets an organization's weight.
    package func weigh(_ organization: OrganizationID, _ new: NewWeight) async throws -> OrganizationQueues {
        try await put("/v1/queues/\(organization)/weight", new)
    }

    /// Sets or removes an organization's cap.
    package func cap(_ organization: OrganizationID, _ new: NewCap) async throws -> OrganizationQueues {
        try await put("/v1/queues/\(organization)/cap", new)
    }

    /// An organization's limits that are finer than its cap.
    package func limits(of organization: OrganizationID) async throws -> QueueLimits {
        try await get("/v1/queues/\(organization)/limits")
    }

    /// Replaces them.
    package func limit(_ organization: OrganizationID, _ new: QueueLimits) async throws -> QueueLimits {
        try await put("/v1/queues/\(organization)/limits", new)
    }

    /// How many interactive runs of an organization go before its standard ones.
    package func interactive(of organization: OrganizationID) async throws -> InteractiveBucket {
        try await get("/v1/queues/\(organization)/interactive")
    }

    /// Sets that.
    package func limitInteractive(
        _ organization: OrganizationID, _ new: InteractiveBucket
    ) async throws -> InteractiveBucket {
        try await put("/v1/queues/\(organization)/interactive", new)
    }

    /// One page of the pauses and drains in force.
    package func controls(_ page: PageOptions = PageOptions()) async throws -> Page<QueueControl> {
        try await get("/v1/queues/controls", page.parameters)
    }

    /// Starts no more runs of a scope.
    package func pause(_ request: ControlRequest) async throws -> QueueControl {
        try await post("/v1/queues/pause", request)
    }

    /// Refuses new jobs of a scope.
    package func drain(_ request: ControlRequest) async throws -> QueueControl {
        try await post("/v1/queues/drain", request)
    }

    /// Ends pauses and drains.
    package func resume(_ request: ResumeRequest) async throws -> LiftedControls {
        try await post("/v1/queues/resume", request)
    }

    /// One page of the installation's processes.
    package func workers(_ page: PageOptions = PageOptions()) async throws -> Page<WorkerStatus> {
        try await get("/v1/workers", page.parameters)
    }

    /// Lets a worker finish what it holds and claim nothing more.
    package func drain(_ worker: WorkerID) async throws -> WorkerStatus {
        try await post("/v1/workers/\(worker)/drain")
    }
}
