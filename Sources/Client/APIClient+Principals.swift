package import Domain
package import Wire

extension APIClient {
    /// Who is calling, and what they may do where.
    package func whoami() async throws -> Caller { try await get("/v1/whoami") }

    // MARK: API keys

    /// Makes an API key.
    package func createAPIKey(_ new: NewAPIKey) async throws -> CreatedAPIKey {
        try await post("/v1/api-keys", new)
    }

    /// One page of API keys.
    package func apiKeys(_ page: PageOptions = PageOptions()) async throws -> Page<APIKey> {
        try await get("/v1/api-keys", page.parameters)
    }

    /// One API key, but for its text.
    package func apiKey(_ id: APIKeyID) async throws -> APIKey { try await get("/v1/api-keys/\(id)") }

    /// Gives a key another text.
    package func rotate(_ id: APIKeyID, _ rotation: NewRotation) async throws -> CreatedAPIKey {
        try await post("/v1/api-keys/\(id)/rotate", rotation)
    }

    /// Revokes a key.
    package func revoke(_ id: APIKeyID) async throws { try await delete("/v1/api-keys/\(id)") }

    // MARK: People

    /// Makes a person.
    package func createUser(_ new: NewUser) async throws -> User { try await post("/v1/users", new) }

    /// One page of people.
    package func users(_ page: PageOptions = PageOptions()) async throws -> Page<User> {
        try await get("/v1/users", page.parameters)
    }

    /// One person.
    package func user(_ id: UserID) async throws -> User { try await get("/v1/users/\(id)") }

    /// Renames a person, or says whether they may sign in.
    package func edit(_ id: UserID, _ changes: NewUserChanges, version: Int? = nil) async throws -> User {
        try await patch("/v1/users/\(id)", changes, version: version)
    }

    // MARK: Roles

    /// Makes a role.
    package func createRole(_ new: NewRole) async throws -> Role { try await post("/v1/roles", new) }

    /// One page of roles; the first has those that are built in too.
    package func roles(_ page: PageOptions = PageOptions()) async throws -> Page<Role> {
        try await get("/v1/roles", page.parameters)
    }

    /// Edits a role.
    package func edit(_ id: RoleID, _ changes: NewRoleChanges, version: Int? = nil) async throws -> Role {
        try await patch("/v1/roles/\(id)", changes, version: version)
    }

    /// Takes a role away.
    package func remove(_ id: RoleID) async throws { try await delete("/v1/roles/\(id)") }

    /// Gives a person a role.
    package func bind(_ new: NewBinding) async throws -> Binding {
        try await post("/v1/role-bindings", new)
    }

    /// One page of who has which role where, optionally of one person.
    package func bindings(
        user: UserID? = nil, _ page: PageOptions = PageOptions()
    ) async throws -> Page<Binding> {
        try await get("/v1/role-bindings", [("userId", user?.description)] + page.parameters)
    }

    /// Takes a role from a person.
    package func unbind(_ id: BindingID) async throws { try await delete("/v1/role-bindings/\(id)") }
}
