/// One of the queues of an organization: it has one for each priority.
package struct OrganizationQueue: Sendable, Hashable {
    /// The tenant.
    package let organization: OrganizationID
    /// How soon its runs are served among the organization's others.
    package let priority: Priority

    /// The queue of an organization and a priority.
    package init(_ organization: OrganizationID, _ priority: Priority) {
        self.organization = organization
        self.priority = priority
    }

    /// All queues of an organization.
    package static func all(of organization: OrganizationID) -> [OrganizationQueue] {
        Priority.allCases.map { OrganizationQueue(organization, $0) }
    }
}
