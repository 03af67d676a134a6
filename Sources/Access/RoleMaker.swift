package import Domain
package import Ledger
import Postgres

/// Makes people, roles and bindings, each a row under a MAC. Nobody gives more than they have.
package struct RoleMaker: Sendable {
    let authenticator: Authenticator
    var ledger: Ledger { authenticator.ledger }
    var seals: RowSeals { authenticator.seals }

    /// A maker on the authenticator's rows and clock.
    package init(_ authenticator: Authenticator) { self.authenticator = authenticator }

    // MARK: People

    /// Makes a person at home at a level within the maker's reach, who may sign in once invited.
    package func createUser(
        email: String, name: String, home: Level, by maker: Principal?
    ) async throws -> UserRow {
        try await authenticator.checkReach(of: [.usersWrite], on: home, for: maker)
        if case .site = home {
            throw AccessError(
                .invalid, field: "siteId", "a person is at home at the platform, a partner or an organization"
            )
        }
        let time = authenticator.now()
        var user = UserRow(
            id: .new(at: time), home: LevelColumns(home), email: email.lowercased(), name: name,
            state: maker == nil ? .active : .invited, expiresAt: time + Rights.lifetime,
            createdBy: maker?.maker, createdAt: time)
        user.mac = seals.seal(user.sealedParts)
        guard try await ledger.insert(user, scope: home.scope) else {
            throw AccessError(.conflict, field: "email", "somebody here has this address already")
        }
        return user
    }

    /// Edits a person: a new name, or whether they may sign in.
    package func editUser(
        _ id: UserID, name: String?, state: UserState?, version: Int?, by caller: Principal
    ) async throws -> UserRow {
        let time = authenticator.now()
        let level = try caller.require(.usersWrite)
        guard var user = try await ledger.user(id, scope: level.scope) else { throw AccessError.nothingHere }
        if let version, version != user.version { throw AccessError.changedMeanwhile }
        let next = try nextVersion(
            id.value, user.version, isSealed: seals.holds(user.mac, user.sealedParts),
            saysAll: state != nil, "person", "disabled")
        if state == .disabled || state == .active { try await requireAll(of: user, by: caller) }
        (user.name, user.state, user.version) = (name ?? user.name, state ?? user.state, next)
        try await write(&user, isDisabled: state == .disabled, scope: level.scope, at: time)
        authenticator.forget()
        return user
    }

    func write(
        _ user: inout UserRow, isDisabled: Bool, scope: Scope, at time: Instant
    ) async throws {
        user.expiresAt = time + Rights.lifetime
        user.mac = seals.seal(user.sealedParts)
        if isDisabled {
            try await authenticator.revocations.revoke(user.id.value, below: user.version, at: time)
        }
        guard try await ledger.update(user, scope: scope) else { throw AccessError.changedMeanwhile }
        if isDisabled { try await endSignIns(of: user.id, at: time) }
    }

    /// Ends a person's sessions, and the links that would let in as the person.
    private func endSignIns(of user: UserID, at time: Instant) async throws {
        for session in try await ledger.deleteSessions(of: user) {
            try await authenticator.revocations.revoke(session.value, at: time)
        }
        try await voidLinks(of: user, at: time)
    }

    /// Ends the links by which somebody sets a person's password: who made them was judged by what the person
    /// could do then.
    private func voidLinks(of user: UserID, at time: Instant) async throws {
        for link in try await ledger.useSignInLinks(of: user) {
            try await authenticator.revocations.revoke(link.value, at: time)
        }
    }

    /// Refuses to touch somebody who has more than the caller.
    func requireAll(of user: UserRow, by caller: Principal) async throws {
        let reach = try await authenticator.rights.reach(ofBindings: user.id, at: authenticator.now())
        for (permission, level) in reach {
            guard let own = caller.reach[permission],
                try await authenticator.rights.contains(level, in: own)
            else {
                throw AccessError(
                    .forbidden,
                    "this person may do more than you (\(permission.rawValue)): somebody who may as much has "
                        + "to do it")
            }
        }
    }

    /// The installation's own administrator, for whom whoever starts it acts: made at the first start, and
    /// again if somebody took it away or altered it.
    package func administrator() async throws -> UserID {
        let time = authenticator.now()
        try await authenticator.revocations.refresh(at: time)
        let known = try await ledger.users(email: Self.administratorEmail, limit: Rights.accountsMax)
        for user in known where user.home.level == .platform {
            let reach = try await authenticator.rights.reach(of: user, at: time)
            if reach?[.rolesWrite] == .platform { return user.id }
        }
        let isTaken = known.contains { $0.home.level == .platform }
        let user = try await createUser(
            email: isTaken ? "administrator-\(UniqueID.v7(at: time))@localhost" : Self.administratorEmail,
            name: "Administrator", home: .platform, by: nil)
        _ = try await bind(
            user.id, to: .builtin(BuiltinRole.platformAdmin.rawValue), on: .platform, by: nil)
        return user.id
    }

    private static let administratorEmail = "administrator@localhost"

    // MARK: Roles

    /// Makes a role of a level within the maker's reach, from permissions that the maker has there.
    package func createRole(
        name: String, permissions: Set<Permission>, home: Level, by maker: Principal
    ) async throws -> RoleRow {
        try await requireToGive(permissions, on: home, by: maker)
        if case .site = home {
            throw AccessError(
                .invalid, field: "siteId", "a role belongs to the platform, a partner or an organization")
        }
        guard BuiltinRole(rawValue: name) == nil else {
            throw AccessError(.conflict, field: "name", "is the name of a role that is built in")
        }
        let time = authenticator.now()
        var role = RoleRow(
            id: .new(at: time), home: LevelColumns(home), name: name,
            permissions: permissions.map(\.rawValue).sorted(), expiresAt: time + Rights.lifetime,
            createdBy: maker.maker, createdAt: time)
        role.mac = seals.seal(role.sealedParts)
        guard try await ledger.insert(role, scope: home.scope) else {
            throw AccessError(.conflict, field: "name", "there is a role of this name already")
        }
        return role
    }

    /// Edits a role: who is bound to it has what it says from then on.
    package func editRole(
        _ id: RoleID, name: String?, permissions: Set<Permission>?, version: Int?, by caller: Principal
    ) async throws -> RoleRow {
        let time = authenticator.now()
        let level = try caller.require(.rolesWrite)
        guard var role = try await ledger.role(id, scope: level.scope), let home = role.home.level else {
            throw AccessError.nothingHere
        }
        if let version, version != role.version { throw AccessError.changedMeanwhile }
        let next = try nextVersion(
            id.value, role.version, isSealed: seals.holds(role.mac, role.sealedParts),
            saysAll: permissions != nil, "role", "permissions")
        // Judged before anything is revoked: what is refused leaves the role as it is.
        if let name, name != role.name {
            guard BuiltinRole(rawValue: name) == nil else {
                throw AccessError(.conflict, field: "name", "is the name of a role that is built in")
            }
            guard try await !ledger.isTaken(name, at: role.home, by: id) else {
                throw AccessError(.conflict, field: "name", "there is a role of this name already")
            }
        }
        // Whoever renames it re-seals all of it.
        let held = Set(role.permissions.compactMap(Permission.init))
        try await requireToGive(permissions.map { $0.union(held) } ?? held, on: home, by: caller)
        role.name = name ?? role.name
        role.permissions = (permissions ?? held).map(\.rawValue).sorted()
        role.version = next
        role.expiresAt = time + Rights.lifetime
        role.mac = seals.seal(role.sealedParts)
        try await authenticator.revocations.revoke(id.value, below: role.version, at: time)
        guard try await ledger.update(role, scope: level.scope) else { throw AccessError.changedMeanwhile }
        authenticator.forget()
        return role
    }

    /// Takes a role away that nobody is bound to.
    package func deleteRole(_ id: RoleID, version: Int?, by caller: Principal) async throws {
        let level = try caller.require(.rolesWrite)
        guard let role = try await ledger.role(id, scope: level.scope) else { throw AccessError.nothingHere }
        if let version, version != role.version { throw AccessError.changedMeanwhile }
        guard try await ledger.deleteRole(id, version: version, scope: level.scope) else {
            throw AccessError.changedMeanwhile
        }
        try await authenticator.revocations.revoke(id.value, at: authenticator.now())
    }

    // MARK: Bindings

    /// Gives a person a role on a level within the maker's reach; the maker has all that the role holds
    /// there.
    package func bind(
        _ user: UserID, to role: BindingRow.Role, on level: Level, by maker: Principal?
    ) async throws -> BindingRow {
        let permissions: Set<Permission>
        switch role {
        case .builtin(let name):
            guard let builtin = BuiltinRole(rawValue: name) else {
                let names = BuiltinRole.allCases.map(\.rawValue).joined(separator: ", ")
                throw AccessError(.invalid, field: "role", "is no role that is built in; those are: \(names)")
            }
            guard builtin.fits(level) else {
                throw AccessError(
                    .invalid, field: "role", "\(name) can be given on \(builtin.fitting), not on this level")
            }
            permissions = builtin.permissions
        case .made(let id):
            permissions = try await self.permissions(ofMade: id, on: level, for: maker)
        }
        if let maker {
            try await requireToGive(permissions, on: level, by: maker)
        } else {
            try await authenticator.checkReach(of: [], on: level, for: nil)
        }
        let seen = try await ledger.user(user, scope: maker?.require(.usersRead).scope ?? .platform)
        guard let person = seen else {
            throw AccessError(.notFound, field: "userId", "names nobody that you may see")
        }
        try requireSeal(holds(person), "person")
        try await requireOneKind(user, level)
        try maker?.requireLasting()
        let time = authenticator.now()
        try await voidLinks(of: user, at: time)
        var binding = BindingRow(
            id: .new(at: time), user: user, place: LevelColumns(level), role: role,
            expiresAt: time + Rights.lifetime, createdBy: maker?.maker, createdAt: time)
        binding.mac = seals.seal(binding.sealedParts)
        guard try await ledger.insert(binding, scope: level.scope) else {
            throw AccessError(.conflict, field: "role", "this person has this role there already")
        }
        authenticator.forget()
        return binding
    }

    /// Takes a role from a person.
    package func unbind(_ id: BindingID, by caller: Principal) async throws {
        let level = try caller.require(.rolesWrite)
        guard let binding = try await ledger.binding(id, scope: level.scope),
            let place = binding.place.level
        else { throw AccessError.nothingHere }
        try await authenticator.check(place, within: level, evenArchived: true)
        try await authenticator.revocations.revoke(id.value, at: authenticator.now())
        guard try await ledger.deleteBinding(id, scope: level.scope) else { throw AccessError.nothingHere }
        authenticator.forget()
    }

    /// A person's bindings are of one kind: the platform, one partner, organizations, or one site. So what a
    /// person sees is one scope.
    private func requireOneKind(_ user: UserID, _ level: Level) async throws {
        let bindings = try await ledger.bindings(of: user, limit: Rights.bindingsMax)
        guard bindings.count < Rights.bindingsMax else {
            throw AccessError(
                .conflict, field: "userId", "has \(Rights.bindingsMax) roles, which is the limit")
        }
        for other in bindings.compactMap(\.place.level) where other != level {
            if case .organization = level, case .organization = other { continue }
            throw AccessError(
                .conflict, field: "userId",
                "has a role on another level: somebody's roles are on the platform, on one partner, on one "
                    + "site, or on any number of organizations")
        }
    }

    func permissions(
        ofMade id: RoleID, on level: Level, for maker: Principal?
    ) async throws -> Set<Permission> {
        let scope = try maker?.require(.rolesRead).scope ?? .platform
        guard let role = try await ledger.role(id, scope: scope), let home = role.home.level else {
            throw AccessError(.notFound, field: "roleId", "names no role that you may see")
        }
        try requireSeal(holds(role), "role")
        guard try await authenticator.rights.contains(level, in: home) else {
            throw AccessError(.invalid, field: "roleId", "is a role of a level that this one is not below")
        }
        return Set(role.permissions.compactMap(Permission.init))
    }

    /// Refuses to give what the maker does not have on a level.
    func requireToGive(
        _ permissions: Set<Permission>, on level: Level, by maker: Principal
    ) async throws {
        let excess = permissions.subtracting(maker.permissions).map(\.rawValue).sorted()
        guard excess.isEmpty else {
            throw AccessError(
                .forbidden, field: "permissions",
                "you cannot give what you do not have: \(excess.joined(separator: ", "))")
        }
        try await authenticator.checkReach(of: permissions.union([.rolesWrite]), on: level, for: maker)
        try await authenticator.guards.requireFresh(toGive: permissions, on: level, by: maker)
    }

    func holds(_ user: UserRow) -> Bool {
        seals.holds(user.mac, user.sealedParts)
            && !authenticator.revocations.isVoid(user.id.value, version: user.version)
    }

    private func holds(_ role: RoleRow) -> Bool {
        seals.holds(role.mac, role.sealedParts)
            && !authenticator.revocations.isVoid(role.id.value, version: role.version)
    }

    /// The version that an edit of a row makes. A row below what the list of revocations lets stand is an old
    /// one that was put back, or one whose edit ended between the revocation and the write: it is edited only
    /// by who says all that it grants, so that nothing comes back of what it said.
    private func nextVersion(
        _ id: UniqueID, _ version: Int, isSealed: Bool, saysAll: Bool, _ what: String, _ field: String
    ) throws(AccessError) -> Int {
        try requireSeal(isSealed, what)
        let floor = authenticator.revocations.floor(of: id)
        guard floor < .max else { throw AccessError.nothingHere }
        guard version >= floor || saysAll else {
            throw AccessError(
                .conflict, field: field,
                "an edit of this \(what) was cut off, or an old row put back, so it grants nothing: say "
                    + "again all that it grants")
        }
        return max(version + 1, floor)
    }

    func requireSeal(_ holds: Bool, _ what: String) throws(AccessError) {
        guard holds else {
            throw AccessError(
                .alteredRow, "the row of this \(what) was altered outside the API, so it grants nothing")
        }
    }
}
