package import Domain

/// A level as tables have it: at most one of three ids, none is the platform.
package struct LevelColumns: Sendable, Hashable {
    /// The ids.
    package var partner: PartnerID?
    package var organization: OrganizationID?
    package var site: SiteID?

    /// The columns of three cells.
    init(_ partner: PartnerID?, _ organization: OrganizationID?, _ site: SiteID?) {
        self.partner = partner
        self.organization = organization
        self.site = site
    }

    /// The columns of a level; several organizations are no level of a row.
    package init(_ level: Level) {
        switch level {
        case .platform: self.init(nil, nil, nil)
        case .partner(let id): self.init(id, nil, nil)
        case .organization(let id): self.init(nil, id, nil)
        case .site(let id): self.init(nil, nil, id)
        case .organizations: preconditionFailure("a row has one level")
        }
    }

    /// The level that the columns name; `nil` if they name more than one.
    package var level: Level? {
        switch (partner, organization, site) {
        case (nil, nil, nil): .platform
        case (let id?, nil, nil): .partner(id)
        case (nil, let id?, nil): .organization(id)
        case (nil, nil, let id?): .site(id)
        default: nil
        }
    }

    /// What a MAC covers of them.
    package var parts: [[UInt8]] { [partner?.bytes ?? [], organization?.bytes ?? [], site?.bytes ?? []] }
}
