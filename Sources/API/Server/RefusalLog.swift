import Access
import Domain
import Hummingbird
import Ledger
import Logging
import Postgres
import Synchronization
import Wire

/// Writes refused attempts to the audit log: those that were not let in, and changes that were not allowed.
///
/// What strangers cause is bounded: of each address so many a minute are written, and of all together; the
/// rest is only counted.
final class RefusalLog: Sendable {
    /// How many refusals of a minute are written: of strangers of one address, of a principal, and of all.
    static let ofAddressMax = 30
    static let ofPrincipalMax = 300
    static let ofMinuteMax = 3_000
    /// How many addresses are told apart.
    private static let addressesMax = 10_000

    private struct Minute {
        var began: ContinuousClock.Instant
        var count = 0
        var ofAddress: [String: Int] = [:]
    }

    private let ledger: Ledger
    private let minute = Mutex(Minute(began: .now))

    init(ledger: Ledger) { self.ledger = ledger }

    /// Writes one refusal, if it is of those that are written.
    func note(
        _ request: Request, _ problem: Problem, by principal: Principal?, requestID: String,
        address: String?, _ logger: Logger
    ) async {
        let isChange = request.method != .get && request.method != .head
        guard [401, 403].contains(problem.status) || (isChange && problem.status == 404 && principal != nil),
            isAdmitted(
                principal?.id.description ?? address ?? "",
                max: principal == nil ? Self.ofAddressMax : Self.ofPrincipalMax)
        else { return }
        let actor =
            principal.map { $0.actor(requestID: requestID, address: address) }
            ?? Principal.unknownActor(requestID: requestID, address: address)
        let path = (request.head.path ?? "").prefix { $0 != "?" }
        do {
            try await Actor.$current.withValue(actor) {
                try await ledger.noteRefusal(
                    action: "\(printable(request.method.rawValue)) \(printable(String(path)))",
                    code: problem.code, at: principal?.widest ?? .platform)
            }
        } catch {
            logger.error("a refusal could not be noted", metadata: ["error": "\(error)"])
        }
    }

    /// Whether one more of somebody's may be written at a time.
    func isAdmitted(_ who: String, max: Int, at time: ContinuousClock.Instant = .now) -> Bool {
        minute.withLock { minute in
            if time - minute.began > .seconds(60) { minute = Minute(began: time) }
            guard minute.count < Self.ofMinuteMax else { return false }
            let count = minute.ofAddress[who, default: 0]
            guard count < max, count > 0 || minute.ofAddress.count < Self.addressesMax else { return false }
            minute.ofAddress[who] = count + 1
            minute.count += 1
            return true
        }
    }
}
