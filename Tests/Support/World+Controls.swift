package import Domain
import Ledger
import Postgres
import Trust

package extension World {
    /// Pauses a scope as a key of the platform does.
    func pause(_ scope: QueueScope) async throws {
        _ = try await api.setControl(
            fresh(), .pause, of: scope, reason: nil, by: fresh(), isByPlatform: true, scope: .platform)
    }

    /// Ends every control of a scope.
    func resume(_ scope: QueueScope) async throws {
        _ = try await api.liftControls(of: scope, mode: nil, isByPlatform: true, scope: .platform)
    }
}
