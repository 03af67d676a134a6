package import Domain
package import Ledger
package import Logging
import Trust
import Wire

/// Issues another certificate to a device whose own comes to its end. It stands in the role api, which alone
/// has the authority of devices.
///
/// A request says nothing that is believed: it must be signed by the key that the device's *signed*
/// assignment names, so nobody who writes PostgreSQL, or runs a gateway, has a certificate issued for a key
/// of their own. A device whose certificates are revoked gets none, though its rows are put back.
package struct Renewer: Sendable {
    private let ledger: Ledger
    private let signer: Signer
    private let isRevoked: @Sendable (DeviceID) async throws -> Bool
    private let logger: Logger

    /// A renewer on the API's login, which asks `isRevoked` for what a row of the database may not undo.
    package init(
        ledger: Ledger, signer: Signer, isRevoked: @escaping @Sendable (DeviceID) async throws -> Bool,
        logger: Logger
    ) {
        (self.ledger, self.signer, self.isRevoked, self.logger) = (ledger, signer, isRevoked, logger)
    }

    /// Answers until the task is cancelled: a second after a request at the latest. Any number of processes
    /// may; the first answer counts.
    package func run() async {
        await repeating(every: .zero, idle: .seconds(1), logger, "renewal of certificates") {
            try await answerOnce() >= Self.limit
        }
    }

    /// Answers a batch; returns how many it had.
    package func answerOnce() async throws -> Int {
        let open = try await ledger.openRenewals(limit: Self.limit)
        for one in open {
            let now = Instant.now()
            do throws(Refused) {
                let certificate = try await issue(to: one, now: now)
                let isNoted: Bool
                do { isNoted = try await ledger.answer(one, with: certificate) } catch {
                    throw Refused(error)
                }
                guard isNoted else {
                    throw Refused("its certificates are revoked, or it asks for something else")
                }
                logger.info("a certificate was renewed", metadata: ["device.id": "\(one.assigned.device)"])
            } catch {
                if let cause = error.cause { throw cause }
                logger.notice(
                    "a certificate is not renewed",
                    metadata: ["device.id": "\(one.assigned.device)", "reason": "\(error.reason)"])
                try await ledger.refuse(one, error.reason)
            }
        }
        return open.count
    }

    /// Why there is no certificate; with a cause, why that is not known yet.
    private struct Refused: Error {
        let reason: String
        var cause: (any Error)?

        init(_ reason: String) { self.reason = reason }

        init(_ cause: any Error) { (reason, self.cause) = ("", cause) }
    }

    private func issue(to open: OpenRenewal, now: Instant) async throws(Refused) -> RenewedCertificate {
        let isOver: Bool
        do { isOver = try await isRevoked(open.assigned.device) } catch { throw Refused(error) }
        guard !isOver else { throw Refused("its certificates are revoked") }
        guard open.isActive else { throw Refused("the device is suspended or archived") }
        guard open.issuedToday < Self.issuedPerDayMax else {
            throw Refused("it was issued \(open.issuedToday) certificates within a day, which is the limit")
        }
        let (assignment, request): (AssignmentPayload, CertificateRequest)
        do {
            assignment = try signer.verified(open.assigned, now: now)
            request = try CertificateRequest(pem: open.request)
        } catch {
            throw Refused("its assignment or its request does not hold: \(error)")
        }
        guard assignment.keyHash.bytes == request.publicKeyHash else {
            throw Refused("the request is for another key than its assignment names")
        }
        do {
            let issued = try signer.certificate(
                for: request, device: open.assigned.device, of: open.assigned.organization, now: now)
            return RenewedCertificate(
                pem: issued.pem, serial: issued.serial, keyHash: issued.publicKeyHash,
                end: Instant(seconds: issued.notAfter))
        } catch {
            throw Refused("the request cannot be signed: \(error)")
        }
    }

    private static let limit = 64
    /// An agent asks once in sixty days, and again while it has no answer.
    private static let issuedPerDayMax = 8
}
