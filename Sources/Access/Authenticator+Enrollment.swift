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

    /// Whether the list of what is revoked names a token, whatever its row says.
    package func isRevoked(_ id: EnrollmentTokenID) async throws -> Bool {
        try await revocations.refresh(at: now())
        return revocations.isVoid(id.value)
    }
}
