package import Domain

extension OrganizationID {
    /// One of the organization's queues.
    package func queue(_ priority: Priority = .standard) -> OrganizationQueue {
        OrganizationQueue(self, priority)
    }
}
