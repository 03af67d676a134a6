/// The part of the tenancy that a principal acts on.
package enum Level: Sendable, Hashable {
    case platform
    case partner(PartnerID)
    case organization(OrganizationID)
    case site(SiteID)
}
