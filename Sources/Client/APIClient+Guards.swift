package import Domain
package import Wire

extension APIClient {
    /// How far one act of a partner may reach without more ado.
    package func partnerGuard(_ id: PartnerID) async throws -> PartnerGuard {
        try await get("/v1/partners/\(id)/guard")
    }

    /// Sets how far it may, if the guard is of this version.
    package func edit(
        _ id: PartnerID, _ changes: NewGuardChanges, version: Int? = nil
    ) async throws -> PartnerGuard {
        try await patch("/v1/partners/\(id)/guard", changes, version: version)
    }
}
