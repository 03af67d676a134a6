/// The part of the tenancy that a principal acts on.
package enum Level: Sendable, Hashable {
    case platform
    case partner(PartnerID)
    case organization(OrganizationID)
    /// Several organizations, each as a whole: what a technician of some customers acts on. At least two; one
    /// is ``organization(_:)``.
    case organizations(Set<OrganizationID>)
    case site(SiteID)

    /// The level of these organizations; none is no level.
    package init?(organizations: Set<OrganizationID>) {
        switch organizations.count {
        case 0: return nil
        case 1: self = .organization(organizations[organizations.startIndex])
        default: self = .organizations(organizations)
        }
    }

    /// Whether this is the other level or, being several, has it among them.
    package func includes(_ other: Level) -> Bool {
        if case .organizations(let several) = self, case .organization(let one) = other {
            return several.contains(one)
        }
        return self == other
    }
}
