package import Domain
import Ledger

extension Authenticator {
    /// Revokes an enrolment token that the level sees: by its row at once, and in the list of what is
    /// revoked, so that a row that is put back enrols nobody. What it enrolled before stays.
    package func revokeEnrollmentToken(_ id: EnrollmentTokenID, level: Level) async throws {
        guard try await ledger.enrollmentToken(id, scope: level.scope) != nil else {
            throw AccessError.nothingHere
        }
        try await revocations.revoke(id.value, at: now())
        try await ledger.revokeEnrollmentToken(id, scope: level.scope)
    }

    /// Puts a device in the list of what is revoked: whoever puts its rows back in PostgreSQL gives it
    /// nothing that the API holds.
    package func revoke(_ device: DeviceID) async throws {
        try await revocations.revoke(device.value, at: now())
    }

    /// Whether the list of what is revoked names a token or a device, whatever its row says.
    package func isRevoked<Subject>(_ id: ID<Subject>) async throws -> Bool {
        try await revocations.refresh(at: now())
        return revocations.isVoid(id.value)
    }
}
