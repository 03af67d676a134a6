package import Domain
package import Ledger
import Postgres
import Trust

extension Authenticator {
    /// Makes a key and keeps its row; the secret is known to the caller alone.
    ///
    /// A key never has more than its maker, not now and not later: no other permission, no level outside the
    /// maker's, no later expiry. Without a maker the installation itself makes it, and only the level must
    /// exist. A key that acts for its maker makes things in the maker's name.
    package func createKey(
        name: String, level: Level, permissions: Set<Permission>, expiresIn: Duration, by maker: Principal?,
        actsFor user: UserID? = nil
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
            expiresAt = min(expiresAt, maker.lifetimeOfMade ?? expiresAt)
        }
        try await checkReach(of: permissions.union([.apiKeysWrite]), on: level, for: maker)
        if let maker { try await guards.requireFresh(toGive: permissions, on: level, by: maker) }
        let secret = APIKeySecret()
        var row = APIKeyRow(
            id: .new(at: time), keyHash: secret.hash, prefix: secret.shown, place: LevelColumns(level),
            name: name, permissions: permissions.map(\.rawValue).sorted(), expiresAt: expiresAt,
            createdBy: user.map { PrincipalID($0.value) } ?? maker?.maker, actsForMaker: user != nil,
            createdAt: time)
        row.mac = seals.seal(row.sealedParts)
        // The row belongs to its own level, which has been judged to lie within the maker's.
        try await ledger.insert(row, scope: level.scope)
        return (row, secret.text)
    }

    /// Gives a key another secret; the one before stays good for `overlap`.
    package func rotateKey(
        _ id: APIKeyID, version: Int?, overlap: Duration, by caller: Principal
    ) async throws -> (row: APIKeyRow, secret: String) {
        let time = now()
        let level = try caller.require(.apiKeysWrite)
        var row = try await ownKey(id, version: version, level: level, at: time)
        try await requireAll(of: row, by: caller)
        let secret = APIKeySecret()
        (row.previousHash, row.previousExpiresAt) = (row.keyHash, min(time + overlap, row.expiresAt))
        (row.keyHash, row.prefix) = (secret.hash, secret.shown)
        row.version += 1
        row.mac = seals.seal(row.sealedParts)
        guard try await ledger.update(row, scope: level.scope) else { throw AccessError.changedMeanwhile }
        // The row as it was, brought back, would open with the old secret for ever.
        try await revocations.revoke(id.value, below: row.version, at: time)
        forget()
        return (row, secret.text)
    }

    /// Who is told a key's text has what the key has: refuses whoever does not have it already.
    private func requireAll(of row: APIKeyRow, by caller: Principal) async throws {
        let held = Set(row.permissions.compactMap(Permission.init))
        let excess = held.subtracting(caller.permissions).map(\.rawValue).sorted()
        let actsForAnother = row.actsForMaker && row.createdBy != caller.maker
        guard excess.isEmpty, !actsForAnother, let place = row.place.level else {
            throw AccessError(
                .forbidden, "this key may do more than you: somebody who may as much has to do it")
        }
        try await checkReach(of: held.union([.apiKeysWrite]), on: place, for: caller)
        try await guards.requireFresh(toGive: held, on: place, by: caller)
    }

    /// Revokes a key, here at once and in other processes of the API within seconds.
    package func revokeKey(_ id: APIKeyID, version: Int?, level: Level) async throws {
        let time = now()
        guard let row = try await ledger.apiKey(id, scope: level.scope) else { throw AccessError.nothingHere }
        if let version, version != row.version { throw AccessError.changedMeanwhile }
        try await revocations.revoke(id.value, at: time)
        _ = try await ledger.revokeAPIKey(id, scope: level.scope)
        forget()
    }

    /// Revokes a key of the installation itself, if there still is one.
    package func revokeKeyIfThere(_ id: APIKeyID) async throws {
        do {
            try await revokeKey(id, version: nil, level: .platform)
        } catch let error as AccessError where error.code == .notFound {
            // Then nobody can use it either.
        }
    }

    /// A key that the level sees and that grants something.
    private func ownKey(
        _ id: APIKeyID, version: Int?, level: Level, at time: Instant
    ) async throws -> APIKeyRow {
        guard let row = try await ledger.apiKey(id, scope: level.scope) else { throw AccessError.nothingHere }
        if let version, version != row.version { throw AccessError.changedMeanwhile }
        guard seals.holds(row.mac, row.sealedParts) else {
            throw AccessError(.alteredRow, "the key was altered outside the API, so it grants nothing")
        }
        guard row.revokedAt == nil, row.expiresAt > time, !revocations.isVoid(id.value, version: row.version)
        else { throw AccessError(.conflict, "the key is revoked or has expired: make another") }
        return row
    }

    /// Refuses a level that is not within the maker's reach by each of these permissions, or is so only by a
    /// row that was altered: the new row's own MAC would vouch for that row ever after.
    package func checkReach(
        of permissions: Set<Permission>, on level: Level, for maker: Principal?, evenArchived: Bool = false
    ) async throws {
        let reaches = Set(permissions.compactMap { maker?.reach[$0] })
        for reach in maker == nil ? [.platform] : Array(reaches) {
            try await check(level, within: reach, evenArchived: evenArchived)
        }
    }

    /// Refuses a level that is not the reach or below it, or is so only by a row that was altered.
    func check(_ level: Level, within reach: Level, evenArchived: Bool = false) async throws {
        let (field, edges): (String, [SealedEdge])
        switch level {
        case .platform:
            guard reach == .platform else {
                throw AccessError(
                    .forbidden,
                    "this reaches the whole platform, which only the platform may give: name a partnerId, "
                        + "organizationId or siteId")
            }
            return
        case .organizations:
            throw AccessError(.invalid, "one level at a time")
        case .partner(let id):
            (field, edges) = ("partnerId", try await ledger.edges(of: id, scope: reach.scope))
        case .organization(let id):
            (field, edges) = ("organizationId", try await ledger.edges(of: id, scope: reach.scope))
        case .site(let id):
            (field, edges) = ("siteId", try await ledger.site(id, scope: reach.scope)?.edges ?? [])
        }
        do throws(EdgeRefusal) {
            try judge.require(edges, upTo: reach, evenArchived: evenArchived)
        } catch {
            throw AccessError(error, field: field)
        }
    }
}
