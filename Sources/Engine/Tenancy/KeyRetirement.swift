package import Domain
package import Ledger
import Postgres
import Trust
import Wire

/// What has to happen before job keys can be retired: nothing may hang on them any more.
package struct KeyRetirement: Sendable {
    private let ledger: Ledger
    private let signer: Signer

    /// A retirement of all job keys but the one that signs, on the API's login.
    package init(ledger: Ledger, signer: Signer) { (self.ledger, self.signer) = (ledger, signer) }

    /// What is left under other keys.
    package func use() async throws -> KeyUse {
        try await ledger.use(notBy: signer.jobKeyID)
    }

    /// Signs anew every assignment that another key has signed, with a higher version: what it says is taken
    /// from the statement that was signed, never from a row. May be repeated at any time.
    /// - Returns: how many were signed, and the devices whose assignment does not hold; those keep what they
    ///   have.
    package func resign() async throws -> (signed: Int, left: [DeviceID]) {
        var (signed, left, last) = (0, [DeviceID](), DeviceID(.zero))
        while true {
            let page = try await ledger.devicesAssigned(
                notBy: signer.jobKeyID, after: last, limit: Self.pageMax)
            let now = Instant.now()
            var resigned: [(before: Assigned, assignment: [UInt8])] = []
            for device in try await ledger.assigned(page, scope: .platform) {
                // One that does not hold is named, as is one that has no version left.
                guard var held = try? signer.verified(device, now: now), held.version < Int(Int32.max) else {
                    left.append(device.device)
                    continue
                }
                held.version += 1
                let new = signer.sign(held, organization: device.organization, now: now)
                resigned.append((device, new.encoded))
            }
            signed += try await ledger.resign(resigned)
            guard page.count == Self.pageMax, let end = page.last else { return (signed, left) }
            last = end
        }
    }

    private static let pageMax = 500
}
