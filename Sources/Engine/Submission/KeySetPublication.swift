package import Domain
package import Ledger
package import Logging
import Trust

/// Makes a signer's key set known to gateways before anything is signed that stands on it.
package struct KeySetPublication: Sendable {
    private let ledger: Ledger
    private let logger: Logger

    /// A publication on the API's login.
    package init(ledger: Ledger, logger: Logger) { (self.ledger, self.logger) = (ledger, logger) }

    /// Publishes; what stands in the table already is believed as far as the root key has signed it.
    /// - Returns: the signer, with a key set that was published since by another host of the API.
    /// - Throws: `conflict` where agents would refuse what the signer signs: the table holds another set of
    ///   its version, or a newer one that does not name its keys.
    package func publish(_ signer: Signer, now: Instant) async throws -> Signer {
        let version = signer.keySetVersion
        try await ledger.publish(keySet: signer.keySet.encoded, version: version)
        if let kept = try await ledger.keySet(version: version), kept != signer.keySet.encoded {
            // One that does not hold, whatever is wrong with it, would be handed out in place of this one.
            let adopted = try? signer.adopting(keySet: SignedStatement(encoded: kept), now: now)
            guard adopted?.keySetVersion == version else {
                throw EngineError(
                    .conflict,
                    "the table key_sets holds another key set \(version) than the directory of keys, so "
                        + "agents would refuse what is signed: remove the row, or take the newest directory")
            }
        }
        guard let newest = try await ledger.newestKeySet(), newest.version > version else { return signer }
        let newer: Signer
        do {
            newer = try signer.adopting(keySet: SignedStatement(encoded: newest.statement), now: now)
        } catch is EngineError {
            throw EngineError(
                .conflict,
                "key set \(newest.version) was published, and does not name the keys in the directory: take "
                    + "the directory that the last 'cloudrmm keys' was run on")
        } catch {
            logger.error(
                "a published key set does not hold, and is not gone by",
                metadata: ["version": "\(newest.version)", "error": "\(error)"])
            return signer
        }
        // An older set under a higher number would bring a key back that was retired.
        guard newer.keySetVersion == newest.version else {
            logger.error(
                "a published key set is another one than its row says, and is not gone by",
                metadata: ["version": "\(newest.version)", "signed": "\(newer.keySetVersion)"])
            return signer
        }
        logger.warning(
            "the directory of keys is not the newest: copy it from where the keys were rotated",
            metadata: ["version": "\(version)", "published": "\(newest.version)"])
        return newer
    }
}
