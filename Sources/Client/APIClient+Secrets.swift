package import Domain
package import Wire

/// Values that scripts are given; none of them comes back.
extension APIClient {
    /// Makes a secret.
    package func createSecret(_ new: NewSecret) async throws -> Secret { try await post("/v1/secrets", new) }

    /// One page of secrets.
    package func secrets(_ page: PageOptions = PageOptions()) async throws -> Page<Secret> {
        try await get("/v1/secrets", page.parameters)
    }

    /// One secret, but for its value.
    package func secret(_ id: SecretID) async throws -> Secret { try await get("/v1/secrets/\(id)") }

    /// Gives a secret another value.
    package func rotate(_ id: SecretID, _ new: NewSecretValue) async throws -> Secret {
        try await post("/v1/secrets/\(id)/rotate", new)
    }

    /// Takes a secret away.
    package func remove(_ id: SecretID, version: Int? = nil) async throws {
        try await delete("/v1/secrets/\(id)", version: version)
    }
}
