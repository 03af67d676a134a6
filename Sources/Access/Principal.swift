package import Domain
import Ledger
package import Postgres

/// Who is calling, judged: nothing in it comes from a row whose MAC did not hold.
package struct Principal: Sendable, Hashable {
    /// The API key that was shown.
    package let id: APIKeyID
    /// What it may act on.
    package let level: Level
    /// What it may do there.
    package let permissions: Set<Permission>
    /// Until when.
    package let expiresAt: Instant

    /// A principal.
    package init(id: APIKeyID, level: Level, permissions: Set<Permission>, expiresAt: Instant) {
        self.id = id
        self.level = level
        self.permissions = permissions
        self.expiresAt = expiresAt
    }

    /// The rows that it sees.
    package var scope: Scope { level.scope }

    /// Refuses with `forbidden`, naming the permission, unless the principal has it.
    package func require(_ permission: Permission) throws(AccessError) {
        guard permissions.contains(permission) else {
            throw AccessError(
                .forbidden,
                "this needs the permission \(permission.rawValue), which the API key does not have")
        }
    }
}
