import Domain
import Synchronization
import Trust
import Wire

/// The device's certificate: when another one is due, and which one is taken for it.
final class CertificateRenewal: Sendable {
    private struct State {
        var certificate: Certificate
        var isDueNow: Bool
    }

    private let deployment: DeploymentID
    private let device: DeviceID
    private let keyHash: [UInt8]
    private let state: Mutex<State>

    /// Of a device that lives here. With `isDueNow` another one is due at once.
    init(_ identity: Identity, isDueNow: Bool) {
        deployment = identity.verifier.deployment
        device = identity.verifier.device
        keyHash = identity.key.publicKeyHash
        state = Mutex(State(certificate: identity.certificate, isDueNow: isDueNow))
    }

    /// The newest.
    var certificate: Certificate { state.withLock(\.certificate) }

    /// Whether two thirds of its life are over.
    func isDue(now: Instant) -> Bool {
        state.withLock { state in
            let (begin, end) = (state.certificate.notBefore, state.certificate.notAfter)
            return state.isDueNow || now.seconds >= begin + (end - begin) / 3 * 2
        }
    }

    /// The certificate of a text, if it is this device's, of its key, from the authority that is pinned, good
    /// now and no shorter than the one before. Whoever runs a gateway may send any text: it must not be able
    /// to take a good certificate away.
    func judge(_ pem: String, authority: String, now: Instant) throws -> Certificate {
        let new = try Certificate(pem: pem)
        func require(_ holds: Bool, _ what: String) throws(AgentError) {
            if !holds { throw AgentError(.untrusted, "the new certificate \(what)") }
        }
        try require(new.publicKeyHash == keyHash, "is for another key")
        try require(new.isIssued(by: Certificate(pem: authority)), "is not from the pinned authority")
        let parts = new.uriNames.first.map {
            $0.split(separator: "/", omittingEmptySubsequences: false).map(String.init)
        }
        try require(
            new.uriNames.count == 1 && parts?.count == 6 && parts?[2] == deployment.description
                && parts?[5] == device.description, "is another device's")
        try require(!new.isCA && new.extendedKeyUsages == certificate.extendedKeyUsages, "is for another use")
        try new.checkValidity(at: now.seconds)
        try require(new.notAfter >= certificate.notAfter, "ends before the one that there is")
        return new
    }

    /// Goes by another certificate from now on.
    func take(_ new: Certificate) {
        state.withLock { state in
            state.certificate = new
            state.isDueNow = false
        }
    }
}
