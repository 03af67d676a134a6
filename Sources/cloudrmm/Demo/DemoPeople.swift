/// A level of the tenancy of a plan, by index.
enum DemoPlace: Hashable {
    case platform
    case partner(Int)
    case organization(Int)
    case site(Int)
}

/// Somebody who could sign in, once invited: an address of a role, never a person's name.
struct DemoPerson: Equatable {
    /// What somebody may do.
    enum Role: Equatable {
        /// A role that every installation has.
        case builtin(String)
        /// `DemoPartner.dispatcher` of a partner.
        case dispatcher(partner: Int)
    }

    let email: String
    let name: String
    let home: DemoPlace
    let role: Role
    /// Where they have it.
    let places: [DemoPlace]

    private init(
        _ email: String, _ name: String, at home: DemoPlace, _ role: Role, on places: DemoPlace...
    ) {
        (self.email, self.name, self.home, self.role) = (email, name, home, role)
        self.places = places.isEmpty ? [home] : places
    }

    /// People of every level. On the platform nobody may make anything: who may do all is made by hand.
    static func all(
        partners: [DemoPartner], organizations: [DemoOrganization], sites: [DemoSite]
    ) -> [DemoPerson] {
        var people = [
            DemoPerson("platform-viewer@example.com", "Platform viewer", at: .platform, .builtin("viewer")),
            DemoPerson(
                "platform-operator@example.com", "Platform operator", at: .platform, .builtin("operator")),
        ]
        for (index, partner) in partners.enumerated() {
            let home = DemoPlace.partner(index)
            let own = organizations.indices.filter { organizations[$0].partner == index }
            people += [
                DemoPerson(
                    "partner-admin@\(partner.domain)", "Partner admin", at: home, .builtin("partnerAdmin")),
                DemoPerson(
                    "technician-1@\(partner.domain)", "Technician 1", at: home, .builtin("technician")),
                DemoPerson(
                    "technician-2@\(partner.domain)", "Technician 2", at: home, .builtin("technician"),
                    on: .organization(own[0]), .organization(own[1])),
                DemoPerson(
                    "dispatcher@\(partner.domain)", "Dispatcher", at: home, .dispatcher(partner: index)),
            ]
        }
        for (index, organization) in organizations.enumerated() {
            let home = DemoPlace.organization(index)
            people += [
                DemoPerson(
                    "it-lead@\(organization.domain)", "IT lead", at: home, .builtin("organizationAdmin")),
                DemoPerson("viewer@\(organization.domain)", "Viewer", at: home, .builtin("viewer")),
            ]
            guard let seat = sites.firstIndex(where: { $0.organization == index }) else { continue }
            people.append(
                DemoPerson(
                    "site-operator@\(organization.domain)", "Site operator", at: home, .builtin("operator"),
                    on: .site(seat)))
        }
        return people
    }
}
