import Access
import Domain
import HTTPTypes
import Ledger
import Wire

extension Handlers {
    var principalRoutes: [Route] { keyRoutes + userRoutes + roleRoutes + bindingRoutes + [whoami] }

    private var whoami: Route {
        .get("/v1/whoami", "Says who is calling, and what they may do where", .known) { call in
            Caller(try call.principal)
        }
    }

    private var keyRoutes: [Route] {
        [
            .post(
                "/v1/api-keys", "Makes an API key; its text is shown only here", .permitted(.apiKeysWrite)
            ) { (call: Call, new: NewAPIKey) in
                let (row, secret) = try await authenticator.createKey(
                    name: new.name, level: new.place.level, permissions: Permission.set(new.permissions),
                    expiresIn: .seconds(new.expiresInSeconds), by: call.principal)
                return CreatedAPIKey(id: row.id, key: secret, expiresAt: row.expiresAt)
            }.refusing(.conflict),
            .get("/v1/api-keys", "Lists the API keys that you may see", .permitted(.apiKeysRead)) {
                (call: Call, query: SortedQuery) in
                query.page.page(
                    try await ledger.apiKeys(query.request, scope: call.scope), id: \.id.value, APIKey.init)
            },
            .get("/v1/api-keys/{id}", "Shows an API key, but for its text", .permitted(.apiKeysRead)) {
                call in
                APIKey(try found(await ledger.apiKey(call.id(), scope: call.scope)))
            },
            .post(
                "/v1/api-keys/{id}/rotate",
                "Gives an API key another text; the one before stays good for a while",
                .permitted(.apiKeysWrite), status: .ok, takesIfMatch: true
            ) { (call: Call, new: NewRotation) in
                let (row, secret) = try await authenticator.rotateKey(
                    call.id(), version: call.version, overlap: .seconds(new.overlapSeconds),
                    by: call.principal)
                return CreatedAPIKey(id: row.id, key: secret, expiresAt: row.expiresAt)
            }.refusing(.conflict),
            .delete(
                "/v1/api-keys/{id}", "Revokes an API key, and with it those that it made",
                .permitted(.apiKeysWrite)
            ) { call in
                try await authenticator.revokeKey(call.id(), version: call.version, level: call.level)
            }.refusing(.conflict),
        ]
    }

    private var userRoutes: [Route] {
        [
            .post("/v1/users", "Makes a person, who is then invited", .permitted(.usersWrite)) {
                (call: Call, new: NewUser) in
                User(
                    try await roles.createUser(
                        email: new.email, name: new.name, home: new.home.level, by: call.principal))
            }.refusing(.conflict),
            .get("/v1/users", "Lists the people that you may see", .permitted(.usersRead)) {
                (call: Call, query: SortedQuery) in
                query.page.page(
                    try await ledger.users(query.request, scope: call.scope), id: \.id.value, User.init)
            },
            .get("/v1/users/{id}", "Shows a person", .permitted(.usersRead)) { call in
                User(try found(await ledger.user(call.id(), scope: call.scope)))
            },
            .patch(
                "/v1/users/{id}", "Renames a person, or says whether they may sign in",
                .permitted(.usersWrite)
            ) {
                (call: Call, changes: NewUserChanges) in
                User(
                    try await roles.editUser(
                        call.id(), name: changes.name,
                        state: changes.disabled.map { $0 ? .disabled : .active }, version: call.version,
                        by: call.principal))
            }.refusing(.conflict),
        ]
    }

    private var roleRoutes: [Route] {
        [
            .post("/v1/roles", "Makes a role", .permitted(.rolesWrite)) { (call: Call, new: NewRole) in
                Role(
                    try await roles.createRole(
                        name: new.name, permissions: Permission.set(new.permissions), home: new.home.level,
                        by: call.principal))
            }.refusing(.conflict),
            .get(
                "/v1/roles", "Lists the roles that were made, on the first page after those built in",
                .permitted(.rolesRead)
            ) { (call: Call, query: PageQuery) in
                var page = query.page(
                    try await ledger.roles(query.request, scope: call.scope), id: \.id.value, Role.init)
                if query.cursor == nil { page.items = BuiltinRole.allCases.map(Role.init) + page.items }
                return page
            },
            .get("/v1/roles/{id}", "Shows a role that was made", .permitted(.rolesRead)) { call in
                Role(try found(await ledger.role(call.id(), scope: call.scope)))
            },
            .patch(
                "/v1/roles/{id}", "Edits a role: who is bound to it has what it says", .permitted(.rolesWrite)
            ) {
                (call: Call, changes: NewRoleChanges) in
                Role(
                    try await roles.editRole(
                        call.id(), name: changes.name,
                        permissions: changes.permissions.map { try Permission.set($0) },
                        version: call.version, by: call.principal))
            }.refusing(.conflict),
            .delete("/v1/roles/{id}", "Takes a role away that nobody is bound to", .permitted(.rolesWrite)) {
                call in
                try await roles.deleteRole(call.id(), version: call.version, by: call.principal)
            }.refusing(.conflict),
        ]
    }

    private var bindingRoutes: [Route] {
        [
            .post("/v1/role-bindings", "Gives a person a role on a level", .permitted(.rolesWrite)) {
                (call: Call, new: NewBinding) in
                let role: BindingRow.Role = new.roleId.map { .made($0) } ?? .builtin(new.role ?? "")
                return Binding(
                    try await roles.bind(new.userId, to: role, on: new.place.level, by: call.principal))
            }.refusing(.conflict),
            .get("/v1/role-bindings", "Lists who has which role where", .permitted(.rolesRead)) {
                (call: Call, query: BindingQuery) in
                query.page.page(
                    try await ledger.bindings(
                        user: query.userId, query.page.request, scope: call.scope), id: \.id.value,
                    Binding.init)
            },
            .get("/v1/role-bindings/{id}", "Shows who has a role where", .permitted(.rolesRead)) { call in
                Binding(try found(await ledger.binding(call.id(), scope: call.scope)))
            },
            .delete("/v1/role-bindings/{id}", "Takes a role from a person", .permitted(.rolesWrite)) { call in
                try await roles.unbind(call.id(), by: call.principal)
            },
        ]
    }
}

// MARK: Rows as they are shown

extension Place {
    /// The columns of a row.
    init(_ columns: LevelColumns) {
        self.init(
            partnerId: columns.partner, organizationId: columns.organization, siteId: columns.site)
    }
}

extension APIKey {
    /// A row of keys.
    init(_ row: APIKeyRow) {
        self.init(
            id: row.id, name: row.name, prefix: row.prefix, place: Place(row.place),
            permissions: row.permissions, expiresAt: row.expiresAt, revokedAt: row.revokedAt,
            createdBy: row.createdBy, lastUsedAt: row.lastUsedAt, previousExpiresAt: row.previousExpiresAt,
            version: row.version, createdAt: row.createdAt)
    }
}

extension User {
    /// A row of users.
    init(_ row: UserRow) {
        self.init(
            id: row.id, email: row.email, name: row.name, home: Place(row.home), state: row.state,
            version: row.version, createdAt: row.createdAt, updatedAt: row.updatedAt)
    }
}

extension Role {
    /// A row of roles.
    init(_ row: RoleRow) {
        self.init(
            id: row.id, name: row.name, builtin: false, permissions: row.permissions, home: Place(row.home),
            version: row.version)
    }

    /// A role that is built in.
    init(_ role: BuiltinRole) {
        self.init(
            id: nil, name: role.rawValue, builtin: true,
            permissions: role.permissions.map(\.rawValue).sorted(), home: Place(), version: 1)
    }
}

extension Binding {
    /// A row of bindings.
    init(_ row: BindingRow) {
        var (builtin, made): (String?, RoleID?)
        switch row.role {
        case .builtin(let name): builtin = name
        case .made(let id): made = id
        }
        self.init(
            id: row.id, userId: row.user, role: builtin, roleId: made, place: Place(row.place),
            expiresAt: row.expiresAt, createdAt: row.createdAt)
    }
}

extension Caller {
    /// A principal.
    init(_ principal: Principal) {
        self.init(
            kind: principal.kind.rawValue, id: principal.id, expiresAt: principal.expiresAt,
            permissions: principal.reach.sorted { $0.key.rawValue < $1.key.rawValue }.map {
                permission, level in
                let (name, ids): (String, [UniqueID]) =
                    switch level {
                    case .platform: ("platform", [])
                    case .partner(let id): ("partner", [id.value])
                    case .organization(let id): ("organizations", [id.value])
                    case .organizations(let ids): ("organizations", ids.map(\.value).sorted())
                    case .site(let id): ("site", [id.value])
                    }
                return Reach(permission: permission.rawValue, level: name, ids: ids.map { ID($0) })
            })
    }
}
