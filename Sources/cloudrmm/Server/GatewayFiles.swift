import Domain
import Process
import Trust

/// All that a gateway reads of the installation's keys, in a directory of its own that can be copied alone:
/// `gateway` in the directory of keys.
///
/// | file | what | made by |
/// |---|---|---|
/// | `server.pem` | certificate and key of the gateways | API, at each start and in time |
/// | `device-ca.pem` | the certificate of the authority of devices | API |
/// | `tickets.key` | seals TLS tickets, shared by the gateways that share the directory | gateway |
/// | `tickets.lock` | held by the gateway that replaces the keys of tickets | gateway |
///
/// No file here signs anything that an agent goes by. A gateway cannot renew its certificate: it reads the
/// files again and again, and takes up what the API, or whoever copies the directory, has put there.
struct GatewayFiles {
    let directory: String

    /// The gateway's part of a directory of keys.
    init(inKeys keys: String) { directory = "\(keys)/gateway" }

    static let certificate = "server.pem"
    static let deviceCA = "device-ca.pem"
    private static let tickets = "tickets.key"
    /// How often the lock is tried at a first start: five seconds, for a disk that is slow to make a file
    /// durable.
    private static let triesMax = 50

    func path(_ name: String) -> String { "\(directory)/\(name)" }

    /// TLS of the gateway: a device's certificate is asked for, 1.3 only.
    func tls() throws -> ListenerFiles {
        ListenerFiles(
            server: try read(Self.certificate, "the certificate and key of gateways"),
            clientCA: try read(Self.deviceCA, "the certificate of the authority of devices"), minimum: .v13,
            tickets: try ticketKeys(now: .now()))
    }

    /// Seconds until the certificate ends.
    func secondsLeft(now: Instant) throws -> Int64 {
        try Certificate(pem: read(Self.certificate, "the certificate and key of gateways")).notAfter
            - now.seconds
    }

    /// The keys of tickets as they are now; whoever finds them due makes the next ones, one at a time.
    private func ticketKeys(now: Instant) throws -> TicketKeys {
        for _ in 0..<Self.triesMax {
            if let kept = keptTicketKeys(), kept.renewed(at: now.seconds) == kept { return kept }
            if let lock = try takeLock() {
                defer { lock.release() }
                return try makeTicketKeys(now: now)
            }
            // Another gateway is at it. The keys it makes are used an hour later, so there is time to read
            // them; only at the very first start there are none yet, and they are waited for.
            if let kept = keptTicketKeys() { return kept }
        }
        throw CommandError("another gateway does not finish making \(path(Self.tickets)); start again")
    }

    /// What may have become due is looked at again under the lock.
    private func makeTicketKeys(now: Instant) throws -> TicketKeys {
        let kept = keptTicketKeys()
        let renewed = kept?.renewed(at: now.seconds) ?? TicketKeys(at: now.seconds)
        if renewed != kept { try DurableFile.write(renewed.bytes, to: path(Self.tickets)) }
        return renewed
    }

    /// The right to replace the keys of tickets, tried for a tenth of a second; `nil` while another gateway
    /// has it.
    private func takeLock() throws -> FileLock? {
        do {
            return try FileLock(path("tickets.lock"))
        } catch {
            guard error.code == .locked else { throw error }
            return nil
        }
    }

    private func keptTicketKeys() -> TicketKeys? {
        guard fileExists(path(Self.tickets)) else { return nil }
        // Keys that cannot be read are made anew: tickets that they sealed cost a full handshake each.
        return try? TicketKeys(bytes: readFile(path(Self.tickets), max: 4_096))
    }

    private func read(_ name: String, _ what: String) throws -> String {
        let path = path(name)
        guard fileExists(path) else {
            throw CommandError(
                "\(path) is missing: \(what). The API makes it in the directory 'gateway' of its keys; start "
                    + "the API first, or copy that directory from the API's host to \(directory)")
        }
        return String(decoding: try readFile(path, max: 65_536), as: UTF8.self)
    }
}
