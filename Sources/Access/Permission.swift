/// What a principal may do, spelled `resource:verb`. A route names one; a role and a key have a set of them.
package enum Permission: String, Sendable, CaseIterable {
    case partnersRead = "partners:read"
    case partnersWrite = "partners:write"
    /// How far one act of a partner may reach without more ado.
    case guardsRead = "guards:read"
    /// Also to loosen that, for which a person shows a fresh second factor.
    case guardsWrite = "guards:write"
    case organizationsRead = "organizations:read"
    case organizationsWrite = "organizations:write"
    case sitesRead = "sites:read"
    case sitesWrite = "sites:write"
    case apiKeysRead = "apiKeys:read"
    case apiKeysWrite = "apiKeys:write"
    case enrollmentTokensRead = "enrollmentTokens:read"
    case enrollmentTokensWrite = "enrollmentTokens:write"
    case usersRead = "users:read"
    case usersWrite = "users:write"
    case rolesRead = "roles:read"
    /// Roles and who is bound to them; nobody gives more than they have.
    case rolesWrite = "roles:write"
    case oidcRead = "oidc:read"
    /// Whose tokens are believed, and what their names stand for; nobody links to more than they have.
    case oidcWrite = "oidc:write"
    case devicesRead = "devices:read"
    /// Names, tags, custom fields, suspending and archiving.
    case devicesWrite = "devices:write"
    /// To another site or organization, both of which must be in reach.
    case devicesMove = "devices:move"
    case jobsRead = "jobs:read"
    /// Code on devices: every kind of job.
    case jobsRun = "jobs:run"
    case jobsCancel = "jobs:cancel"
    /// To be the second person of what reaches many devices; the whole of them must be in reach.
    case jobsApprove = "jobs:approve"
    case queuesRead = "queues:read"
    /// Pause, drain and resume; on the platform's level also workers.
    case queuesWrite = "queues:write"
    /// Weights and caps, which shift work between tenants: a partner has it only if the platform gave it.
    case queuesWeigh = "queues:weigh"
    case auditRead = "audit:read"
    /// Webhooks and how their deliveries went.
    case webhooksRead = "webhooks:read"
    /// Webhooks: what leaves the platform, and where to.
    case webhooksWrite = "webhooks:write"
    /// Secrets, but never their values.
    case secretsRead = "secrets:read"
    /// Secrets: made, rotated and taken away.
    case secretsWrite = "secrets:write"
    /// Name secrets in jobs; whoever may, can have a script tell what they are.
    case secretsUse = "secrets:use"
    /// Archive, with everything that ends by it, and bring back.
    case tenantsArchive = "tenants:archive"
    /// Erase for good.
    case tenantsDelete = "tenants:delete"
    /// Take everything out.
    case tenantsExport = "tenants:export"

    /// Every permission there is.
    package static let all = Set(allCases)

    /// The set that words name; a word that names none is refused with the list of those that do.
    package static func set(
        _ words: [String], field: String = "permissions"
    ) throws(AccessError) -> Set<Permission> {
        var permissions: Set<Permission> = []
        for (index, word) in words.enumerated() {
            guard let permission = Permission(rawValue: word) else {
                let allowed = allCases.map(\.rawValue).joined(separator: ", ")
                throw AccessError(
                    .invalid, field: "\(field)[\(index)]", "names no permission; allowed are: \(allowed)")
            }
            permissions.insert(permission)
        }
        return permissions
    }
}
