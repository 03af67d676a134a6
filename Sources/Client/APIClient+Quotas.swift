package import Domain
package import Wire

extension APIClient {
    /// What an organization has open, and how much it may.
    package func quota(of organization: OrganizationID) async throws -> QueueQuota {
        try await get("/v1/queues/\(organization)/quota")
    }

    /// Sets how much it may.
    package func setQuota(_ new: NewQuota, of organization: OrganizationID) async throws -> QueueQuota {
        try await put("/v1/queues/\(organization)/quota", new)
    }
}
