package import Domain
import Ledger

// Cutting off who acts on what is given up, and having it erased.
extension RoleMaker {
    /// Cuts off who acts on an organization or a site of it: revokes its keys, takes its bindings away, and
    /// disables the people who are at home in it, but for those who may do more elsewhere than the caller.
    /// May be repeated.
    /// - Returns: how many of each.
    package func cutOff(
        _ level: Level, by caller: Principal, using permission: Permission = .tenantsArchive
    ) async throws -> (keys: Int, bindings: Int, users: Int) {
        let time = authenticator.now()
        let scope = try caller.require(permission).scope
        let held = try await ledger.credentials(of: level, scope: scope)
        for id in held.keys {
            try await authenticator.revocations.revoke(id.value, at: time)
            _ = try await ledger.revokeAPIKey(id, scope: scope)
        }
        for id in held.bindings {
            try await authenticator.revocations.revoke(id.value, at: time)
            _ = try await ledger.deleteBinding(id, scope: scope)
        }
        var disabled = 0
        for id in held.users {
            guard var user = try await ledger.user(id, scope: scope),
                try await mayNoMore(user, than: caller)
            else { continue }
            let floor = authenticator.revocations.floor(of: id.value)
            // One that was altered grants nothing, and stays as it is found.
            guard seals.holds(user.mac, user.sealedParts), floor < .max else { continue }
            (user.state, user.version) = (.disabled, max(user.version + 1, floor))
            try await write(&user, isDisabled: true, scope: scope, at: time)
            disabled += 1
        }
        authenticator.forget()
        return (held.keys.count, held.bindings.count, disabled)
    }

    /// Has an archived partner or organization erased, after all that lets somebody in through it was
    /// revoked outside the database: a row that is put back grants nothing.
    /// - Throws: `conflict` if people are at home in it who may do more than the caller; `changedMeanwhile`
    ///   if it is of another version by now.
    package func erase(
        _ level: Level, name: String, version: Int, by caller: Principal
    ) async throws {
        let scope = try caller.require(.tenantsDelete).scope
        var above: [String] = []
        for id in try await ledger.credentials(of: level, scope: scope).users {
            guard let user = try await ledger.user(id, scope: scope),
                try await !mayNoMore(user, than: caller)
            else { continue }
            above.append(user.email)
        }
        guard above.isEmpty else {
            let (named, more) = (above.sorted().prefix(Self.namedMax), above.count - Self.namedMax)
            throw AccessError(
                .conflict,
                "people who may do more than you are at home in it, and would go with it: "
                    + named.joined(separator: ", ") + (more > 0 ? " and \(more) more" : "")
                    + ". Somebody who may as much has to disable them first, or to erase it")
        }
        if case .organization(let organization) = level {
            _ = try await ledger.cutCertificates(of: organization, scope: scope)
        }
        _ = try await cutOff(level, by: caller, using: .tenantsDelete)
        var row = ErasureRow(level, name: name, askedBy: caller.id, askedAt: authenticator.now())
        row.mac = seals.seal(row.sealedParts)
        guard try await ledger.erase(row, version: version, scope: scope) else {
            throw AccessError.changedMeanwhile
        }
        authenticator.forget()
    }

    private static let namedMax = 10

    private func mayNoMore(_ user: UserRow, than caller: Principal) async throws -> Bool {
        do {
            try await requireAll(of: user, by: caller)
            return true
        } catch let error as AccessError where error.code == .forbidden {
            return false
        }
    }
}
