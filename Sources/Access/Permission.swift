/// What a principal may do, spelled `resource:verb`. A route names one; a key has a set of them.
package enum Permission: String, Sendable, CaseIterable {
    case partnersRead = "partners:read"
    case partnersWrite = "partners:write"
    case organizationsRead = "organizations:read"
    case organizationsWrite = "organizations:write"
    case sitesRead = "sites:read"
    case sitesWrite = "sites:write"
    case apiKeysWrite = "apiKeys:write"
    case enrollmentTokensWrite = "enrollmentTokens:write"
    case devicesRead = "devices:read"
    case jobsRead = "jobs:read"
    case jobsRun = "jobs:run"
    case jobsCancel = "jobs:cancel"
    case queuesRead = "queues:read"
    /// Pause, drain and resume; on the platform's level also workers.
    case queuesWrite = "queues:write"
    /// Weights and caps, which shift work between tenants: a partner has it only if the platform gave it.
    case queuesWeigh = "queues:weigh"

    /// Every permission there is.
    package static let all = Set(allCases)

    /// The set that words name; a word that names none is refused with the list of those that do.
    package static func set(_ words: [String]) throws(AccessError) -> Set<Permission> {
        var permissions: Set<Permission> = []
        for (index, word) in words.enumerated() {
            guard let permission = Permission(rawValue: word) else {
                let allowed = allCases.map(\.rawValue).joined(separator: ", ")
                throw AccessError(
                    .invalid, field: "permissions[\(index)]", "names no permission; allowed are: \(allowed)")
            }
            permissions.insert(permission)
        }
        return permissions
    }
}
