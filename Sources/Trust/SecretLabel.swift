package import Domain

/// What a stored secret is, whose it is and in which version: it is sealed with this, and opens with nothing
/// else, so that a row cannot be moved, renamed or put back in another's place.
package struct SecretLabel: Sendable, Hashable {
    /// What a secret is used for.
    package enum Kind: String, Sendable, CaseIterable {
        /// A value that scripts are given.
        case script
        /// The secret of a person's authenticator; its name is the person's id.
        case totp
        /// The password of a mail server.
        case smtp
        /// The key that signs what is sent to a webhook.
        case webhook
        /// The client secret of a provider of identities.
        case oidc
    }

    /// What it is used for.
    package var kind: Kind
    /// The partner whose it is; nil for the platform's.
    package var partner: PartnerID?
    /// The organization whose it is; nil for that of a partner or the platform.
    package var organization: OrganizationID?
    /// The site whose it is; nil for that of a whole organization and above.
    package var site: SiteID?
    /// What it is called there.
    package var name: String
    /// Which value it is; each change has a higher one.
    package var version: Int64

    /// A label; an absent id is another label than any id.
    package init(
        kind: Kind, partner: PartnerID? = nil, organization: OrganizationID? = nil, site: SiteID? = nil,
        name: String, version: Int64
    ) {
        (self.kind, self.partner, self.organization) = (kind, partner, organization)
        (self.site, self.name, self.version) = (site, name, version)
    }

    /// The label of a webhook's secret in a version; neither id is that of the platform's.
    package static func webhook(
        _ id: WebhookID, partner: PartnerID?, organization: OrganizationID?, version: Int
    ) -> SecretLabel {
        SecretLabel(
            kind: .webhook, partner: partner, organization: organization, name: id.description,
            version: Int64(version))
    }

    /// The label of a value that scripts are given; no id is that of the platform's.
    package static func script(
        _ name: String, partner: PartnerID?, organization: OrganizationID?, site: SiteID?, version: Int
    ) -> SecretLabel {
        SecretLabel(
            kind: .script, partner: partner, organization: organization, site: site, name: name,
            version: Int64(version))
    }

    /// What a seal covers; to be framed, since some may be empty.
    package var parts: [[UInt8]] {
        var number: [UInt8] = []
        number.append(bigEndian: version)
        return [
            Array(kind.rawValue.utf8), partner?.bytes ?? [], organization?.bytes ?? [], site?.bytes ?? [],
            Array(name.utf8), number,
        ]
    }
}
