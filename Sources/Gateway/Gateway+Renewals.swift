import Domain
import Engine
import Ledger
import Logging
import Synchronization
import Wire

/// Certificates on their way to devices: the API issues them, the gateway hands on.
extension Gateway {
    /// A device that has asked.
    struct Renewing: Sendable {
        enum Stage { case asked, passedOn, answered }

        let organization: OrganizationID
        let request: String
        let since: ContinuousClock.Instant
        var stage = Stage.asked
    }

    /// A device asks for another certificate. What it asks for again within two minutes is overlooked, so
    /// that nobody keeps the API busy.
    func renew(_ request: String, _ session: Session) {
        guard session.features.contains(.renewal) else {
            return session.close(.malformed("renew was not agreed on"))
        }
        // PEM: anything else is not passed on.
        guard request.utf8.allSatisfy({ (0x20..<0x7F).contains($0) || $0 == 0x0A || $0 == 0x0D }) else {
            return session.close(.malformed("request: is not PEM"))
        }
        let isNew = renewals.withLock { renewals in
            guard renewals[session.device] == nil else { return false }
            renewals[session.device] = Renewing(
                organization: session.organization, request: request, since: .now)
            return true
        }
        counters.increment(isNew ? "renewals" : "renewalsOverlooked")
    }

    /// Passes requests on and answers back. A request that finds no answer is forgotten after a while; the
    /// agent asks again.
    func answerRenewals() async {
        let waiting = renewals.withLock { renewals in
            renewals = renewals.filter { .now - $0.value.since < Self.renewalPause }
            return renewals.filter { $0.value.stage != .answered && sessions[$0.key] != nil }
        }
        guard !waiting.isEmpty else { return }
        do {
            let asked = waiting.filter { $0.value.stage == .asked }
            try await ledger.askRenewals(asked.map { ($0.value.organization, $0.key, $0.value.request) })
            renewals.withLock { renewals in
                for device in asked.keys { renewals[device]?.stage = .passedOn }
            }
            let answers = try await ledger.takeRenewals(of: waiting.map { ($0.value.organization, $0.key) })
            for (device, answer) in answers {
                renewals.withLock { $0[device]?.stage = .answered }
                let renewed: Renewed
                switch answer {
                case .certificate(let pem):
                    counters.increment("renewed")
                    renewed = Renewed(certificate: pem)
                case .refused(let reason):
                    counters.increment("renewalsRefused")
                    renewed = Renewed(refusal: reason.isEmpty ? "refused" : String(reason.prefix(100)))
                }
                sessions[device]?.send([.renewed(renewed)])
            }
        } catch {
            logger.warning("certificates are not renewed", metadata: ["error": "\(error)"])
        }
    }

    private static let renewalPause = Duration.seconds(120)
}
