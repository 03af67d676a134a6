package import Domain
package import Postgres

extension Level {
    /// The rows that it sees.
    package var scope: Scope {
        switch self {
        case .platform: .platform
        case .partner(let id): .partner(id)
        case .organization(let id): .organization(id)
        case .organizations(let ids): .organizations(ids)
        case .site(let id): .site(id)
        }
    }
}
