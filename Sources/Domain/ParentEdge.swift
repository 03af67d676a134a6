/// Where a row of the tenancy belongs. Whose power reaches the row follows from it, so that it carries a MAC
/// made by whoever made the row.
package enum ParentEdge: Sendable, Hashable, CustomStringConvertible {
    /// A partner belongs to the platform.
    case partner(PartnerID)
    /// An organization belongs to a partner.
    case organization(OrganizationID, of: PartnerID)
    /// A site belongs to an organization.
    case site(SiteID, of: OrganizationID)
    /// A device belongs to a site of an organization.
    case device(DeviceID, at: SiteID, of: OrganizationID)

    /// The table of the row.
    package var table: String {
        switch self {
        case .partner: "partners"
        case .organization: "organizations"
        case .site: "sites"
        case .device: "devices"
        }
    }

    /// The level that the row is; `nil` for a device, which is none.
    package var level: Level? {
        switch self {
        case .partner(let id): .partner(id)
        case .organization(let id, _): .organization(id)
        case .site(let id, _): .site(id)
        case .device: nil
        }
    }

    /// The level that the row belongs to.
    package var parent: Level {
        switch self {
        case .partner: .platform
        case .organization(_, let partner): .partner(partner)
        case .site(_, let organization): .organization(organization)
        case .device(_, let site, _): .site(site)
        }
    }

    /// What a MAC of this edge covers, under a key of this id: table, row, key, then what the row belongs to.
    package func parts(keyID: String) -> [[UInt8]] {
        let (id, parents): ([UInt8], [[UInt8]]) =
            switch self {
            case .partner(let id): (id.bytes, [])
            case .organization(let id, let partner): (id.bytes, [partner.bytes])
            case .site(let id, let organization): (id.bytes, [organization.bytes])
            case .device(let id, let site, let organization): (id.bytes, [organization.bytes, site.bytes])
            }
        return [Array(table.utf8), id, Array(keyID.utf8)] + parents
    }

    /// The kind of the row and its id.
    package var description: String {
        switch self {
        case .partner(let id): "partner \(id)"
        case .organization(let id, _): "organization \(id)"
        case .site(let id, _): "site \(id)"
        case .device(let id, _, _): "device \(id)"
        }
    }

    /// Why nothing new is made or done there.
    package var archived: String { "\(self) is archived, or a level above it is: restore that first" }

    /// Why nothing is granted by an edge whose MAC does not hold.
    package var refusal: String {
        "\(self) was moved outside the API: the MAC of its row does not hold, so the row grants nothing"
    }
}

/// The message authentication code of a row that grants power, and the id of the key that made it.
package struct RowMAC: Sendable, Hashable {
    /// The key's id.
    package let keyID: String
    /// The code.
    package let code: [UInt8]

    /// A row's MAC.
    package init(keyID: String, code: [UInt8]) {
        self.keyID = keyID
        self.code = code
    }
}

/// An edge as its row says it, with the MAC that the row carries: to be judged before it is believed.
package struct SealedEdge: Sendable, Hashable {
    /// What the row says.
    package let edge: ParentEdge
    /// The MAC beside it.
    package let mac: RowMAC
    /// Whether the row says that it, or a level above it, is archived.
    package let isArchived: Bool

    /// A row's edge.
    package init(_ edge: ParentEdge, _ mac: RowMAC, isArchived: Bool = false) {
        self.edge = edge
        self.mac = mac
        self.isArchived = isArchived
    }
}
