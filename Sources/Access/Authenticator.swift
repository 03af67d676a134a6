package import Domain
package import Ledger
import Postgres
import Synchronization
package import Trust

/// Judges API keys and makes them.
///
/// A key's row is believed only if its MAC holds, whose key is not in PostgreSQL: an owner of the database
/// can delete a key, not make or widen one. Judged principals are remembered for `cacheSeconds`, so a
/// revocation holds after at most that time; refusals are not remembered.
package final class Authenticator: Sendable {
    /// How long a judged key is believed without another look at its row.
    package static let cacheSeconds = 5
    /// How many judged keys are remembered.
    package static let cachedMax = 10_000

    private struct Judged {
        let principal: Principal
        let until: Instant
    }

    private let ledger: Ledger
    private let macKey: MACKey
    private let macKeyID: String
    private let judge: EdgeJudge
    private let now: @Sendable () -> Instant
    private let judged = Mutex<[[UInt8]: Judged]>([:])

    /// Judges keys with one MAC key, which rows name by its id, and their levels by `judge`; `now` is the
    /// clock that expiry is judged by.
    package init(
        ledger: Ledger, macKey: MACKey, macKeyID: String, judge: EdgeJudge,
        now: @escaping @Sendable () -> Instant = { .now() }
    ) {
        self.ledger = ledger
        self.macKey = macKey
        self.macKeyID = macKeyID
        self.judge = judge
        self.now = now
    }

    // MARK: Judging

    /// The principal of a key's text.
    /// - Throws: `AccessError.unauthorized` for every key that does not hold, and the database's errors.
    package func principal(of key: String) async throws -> Principal {
        guard let hash = APIKeySecret(key)?.hash else { throw AccessError.unauthorized }
        let time = now()
        let known = judged.withLock { $0[hash] }
        if let known, known.until > time { return known.principal }
        guard let row = try await ledger.apiKey(hash: hash), let principal = judge(row, at: time) else {
            judged.withLock { _ = $0.removeValue(forKey: hash) }
            throw AccessError.unauthorized
        }
        judged.withLock { judged in
            if judged.count >= Self.cachedMax { judged.removeAll(keepingCapacity: true) }
            judged[hash] = Judged(
                principal: principal, until: min(principal.expiresAt, time + .seconds(Self.cacheSeconds)))
        }
        return principal
    }

    private func judge(_ row: APIKeyRow, at time: Instant) -> Principal? {
        guard row.macKey == macKeyID, macKey.isValid(row.mac, for: row.sealedParts), row.revokedAt == nil,
            row.expiresAt > time, let level = row.level
        else { return nil }
        // A word of a later release is no permission here.
        return Principal(
            id: row.id, level: level, permissions: Set(row.permissions.compactMap(Permission.init)),
            expiresAt: row.expiresAt)
    }

    // MARK: Making

    /// Makes a key and keeps its row; the secret is known to the caller alone.
    ///
    /// A key never has more than its maker: no other permission, no level outside the maker's, no later
    /// expiry. Without a maker the installation itself makes it, and only the level must exist.
    package func createKey(
        name: String, level: Level, permissions: Set<Permission>, expiresIn: Duration, by maker: Principal?
    ) async throws -> (row: APIKeyRow, secret: String) {
        let time = now()
        var expiresAt = time + expiresIn
        if let maker {
            let excess = permissions.subtracting(maker.permissions).map(\.rawValue).sorted()
            guard excess.isEmpty else {
                throw AccessError(
                    .forbidden, field: "permissions",
                    "a key cannot have a permission that its maker lacks: \(excess.joined(separator: ", "))")
            }
            expiresAt = min(expiresAt, maker.expiresAt)
        }
        try await check(level, for: maker)
        let secret = APIKeySecret()
        var row = APIKeyRow(
            id: .new(at: time), keyHash: secret.hash, partner: nil, organization: nil, site: nil, name: name,
            permissions: permissions.map(\.rawValue).sorted(), expiresAt: expiresAt, revokedAt: nil,
            macKey: macKeyID,
            mac: [], createdBy: maker?.id)
        switch level {
        case .platform: break
        case .partner(let id): row.partner = id
        case .organization(let id): row.organization = id
        case .site(let id): row.site = id
        }
        row.mac = macKey.mac(row.sealedParts)
        // The row belongs to its own level, which has been judged to lie within the maker's.
        try await ledger.insert(row, scope: level.scope)
        return (row, secret.text)
    }

    /// Refuses a level that is not the maker's own or below, or is so only by a row that was altered: the
    /// key's own MAC would vouch for that row ever after.
    private func check(_ level: Level, for maker: Principal?) async throws {
        let scope = maker?.scope ?? .platform
        let (field, edges): (String, [SealedEdge])
        switch level {
        case .platform:
            guard maker == nil || maker?.level == .platform else {
                throw AccessError(
                    .forbidden,
                    "only a key of the platform can make another: name a partnerId, organizationId or siteId")
            }
            return
        case .partner(let id): (field, edges) = ("partnerId", try await ledger.edges(of: id, scope: scope))
        case .organization(let id):
            (field, edges) = ("organizationId", try await ledger.edges(of: id, scope: scope))
        case .site(let id):
            (field, edges) = ("siteId", try await ledger.site(id, scope: scope)?.edges ?? [])
        }
        do throws(EdgeRefusal) {
            try judge.require(edges, upTo: maker?.level ?? .platform)
        } catch {
            throw AccessError(error, field: field)
        }
    }
}
