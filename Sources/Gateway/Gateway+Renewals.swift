import Domain
import Engine
import Ledger
import Logging
import Synchronization
import Wire

/// Certificates on their way to devices: the API issues them, the gateway hands on.
extension Gateway {
    /// What a device waits for.
    struct Renewing: Sendable {
        /// The request, until the API is asked.
        var request: String?
        let organization: OrganizationID
        let since: ContinuousClock.Instant
    }

    /// A device asks for another certificate. One request a device is under way; what is asked for while one
    /// is, is overlooked.
    func renew(_ request: String, _ session: Session) {
        guard session.features.contains(.renewal) else {
            return session.close(.malformed("renew was not agreed on"))
        }
        let isNew = renewals.withLock { renewals in
            guard renewals[session.device] == nil else { return false }
            renewals[session.device] = Renewing(
                request: request, organization: session.organization, since: .now)
            return true
        }
        counters.increment(isNew ? "renewals" : "renewalsOverlooked")
    }

    /// Passes requests on and answers back. A request that finds no answer is forgotten after a while; the
    /// agent asks again.
    func answerRenewals() async {
        let waiting = renewals.withLock { renewals in
            renewals = renewals.filter {
                sessions[$0.key] != nil && .now - $0.value.since < Self.renewalPatience
            }
            return renewals
        }
        guard !waiting.isEmpty else { return }
        do {
            for (device, renewing) in waiting {
                guard let request = renewing.request else { continue }
                try await ledger.askRenewal(device, organization: renewing.organization, request: request)
                renewals.withLock { $0[device]?.request = nil }
            }
            let answers = try await ledger.takeRenewals(of: waiting.map { ($0.value.organization, $0.key) })
            for (device, answer) in answers {
                renewals.withLock { $0[device] = nil }
                switch answer {
                case .certificate(let pem):
                    counters.increment("renewed")
                    sessions[device]?.send([.renewed(Renewed(certificate: pem))])
                case .refused(let reason):
                    counters.increment("renewalsRefused")
                    let reason = String(reason.prefix(200))
                    sessions[device]?.send([.renewed(Renewed(refusal: reason.isEmpty ? "refused" : reason))])
                }
            }
        } catch {
            logger.warning("certificates are not renewed", metadata: ["error": "\(error)"])
        }
    }

    private static let renewalPatience = Duration.seconds(120)
}
