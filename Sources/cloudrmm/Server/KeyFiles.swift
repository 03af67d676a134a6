import Access
import Domain
import Engine
import Ledger
import Process
import Trust

/// The installation's keys in a directory that only its owner can read: made at first start, the same ever
/// after.
///
/// | file | what |
/// |---|---|
/// | `deployment` | the installation's id |
/// | `root.pub`, `keyset` | the public root key, and the key set that it has signed |
/// | `root.seed` | the Ed25519 seed of the root key, unless it is kept elsewhere |
/// | `job.seed` | the Ed25519 seed of the job key, which signs everything else |
/// | `mac.key` | the key of MACs over rows that grant power |
/// | `sealing.key` | the key of stored secrets |
/// | `sealing-ID.key` | keys of stored secrets before it, until nothing needs them any more |
/// | `audit.heads` | how far each log of the audit was, under a MAC |
/// | `revocations.head` | how far the list of revocations was |
/// | `server-ca.pem`, `server-ca.key` | the authority of gateways and API; the certificate is public |
/// | `device-ca.pem`, `device-ca.key` | the authority of devices; the certificate is public |
/// | `server.pem` | certificate and key of the API's listener, made anew at each start and in time |
/// | `gateway/` | all that gateways read, see `GatewayFiles`; made anew where it was moved away |
///
/// Only the API role, and who makes its first key, opens this directory. A gateway reads `gateway/` alone, a
/// worker nothing.
struct KeyFiles {
    let directory: String

    /// Everything the API role holds.
    struct APIKeys {
        var signer: Signer
        let seals: RowSeals
        /// The keys of stored secrets.
        let sealing: SealingKeys
        /// The judge of edges, with the same key; `onRefusal` hears of those that do not hold.
        let judge: @Sendable (@escaping @Sendable (EdgeRefusal) -> Void) -> EdgeJudge
    }

    /// The keys in a directory; what is missing is made, durably.
    init(directory: String) throws {
        self.directory = directory
        try Directory.make(directory, mode: 0o700)
    }

    var serverCAPath: String { path("server-ca.pem") }

    /// What gateways read.
    var gatewayFiles: GatewayFiles { GatewayFiles(inKeys: directory) }

    /// Opens or makes the keys of the API role.
    func openAPIKeys() throws -> APIKeys {
        let deploymentID = try deployment()
        let macBytes = try bytes("mac.key") { Trust.randomBytes(32) }
        let signer = try signer(of: deploymentID)
        let (macKey, keyID) = (try MACKey(bytes: macBytes), Hex.encode(SHA256.hash(macBytes).prefix(8)))
        return APIKeys(
            signer: signer, seals: RowSeals(key: macKey, keyID: keyID), sealing: try sealingKeys(),
            judge: { EdgeJudge(key: macKey, keyID: keyID, onRefusal: $0) })
    }

    /// The keys of stored secrets, each under an id that is made from it.
    private func sealingKeys() throws -> SealingKeys {
        let current = try sealingKey()
        let older = try olderSealingKeys().map { name in
            try sealingKey(of: readFile(path(name), max: 65_536))
        }
        // One that was kept as older, and not replaced before a crash, is the current one still.
        return try SealingKeys(current: current, older: older.filter { $0.id != current.id })
    }

    private func sealingKey() throws -> SealingKeys.Key {
        try sealingKey(of: bytes("sealing.key") { Trust.randomBytes(SealingKeys.Key.byteCount) })
    }

    private func sealingKey(of secret: [UInt8]) throws -> SealingKeys.Key {
        try SealingKeys.Key(
            id: Hex.encode(SHA256.hash(secret).prefix(8)), secret: SecretBytes(secret))
    }

    private func olderSealingKeys() throws -> [String] {
        try listDirectory(directory).filter { $0.hasPrefix("sealing-") && $0.hasSuffix(".key") }.sorted()
    }

    /// Makes another key of stored secrets and keeps the one before; returns its id. A crash in between
    /// leaves the one before in force.
    func rotateSealingKey() throws -> String {
        let before = try sealingKey()
        try DurableFile.write(
            readFile(path("sealing.key"), max: 65_536), to: path("sealing-\(before.id).key"), mode: 0o600)
        try DurableFile.write(
            Trust.randomBytes(SealingKeys.Key.byteCount), to: path("sealing.key"), mode: 0o600)
        return try sealingKey().id
    }

    /// Removes the keys of stored secrets before the current one; returns how many there were.
    func retireSealingKeys() throws -> Int {
        let names = try olderSealingKeys()
        for name in names { try removeFile(path(name)) }
        return names.count
    }

    /// Where the heads of the audit log are kept: a line each with log, count and MAC, and one with the MAC
    /// of all of them.
    func auditStore(_ seals: RowSeals) -> AuditSealer.Store {
        let path = path("audit.heads")
        @Sendable func seal(_ lines: [String]) -> RowMAC {
            seals.seal { keyID in
                [Array("audit.heads".utf8), Array(keyID.utf8)] + lines.map { Array($0.utf8) }
            }
        }
        return AuditSealer.Store {
            guard fileExists(path) else { return [] }
            var lines = String(decoding: try readFile(path, max: 64 << 20), as: UTF8.self)
                .split(separator: "\n").map(String.init)
            let last = lines.popLast() ?? ""
            guard last == "mac \(Hex.encode(seal(lines).code))" else {
                throw CommandError("\(path) was altered: its own MAC does not hold")
            }
            return try lines.map { line in
                let words = line.split(separator: " ")
                guard words.count == 3, let chain = UniqueID(words[0]), let count = Int(words[1]),
                    let mac = Hex.decode(String(words[2]))
                else { throw CommandError("\(path) does not hold the heads of the audit log") }
                return AuditHead(chain: chain, count: count, mac: mac)
            }
        } write: { heads in
            let lines = heads.map { "\($0.chain) \($0.count) \(Hex.encode($0.mac))" }
            let text = (lines + ["mac \(Hex.encode(seal(lines).code))"]).joined(separator: "\n") + "\n"
            try DurableFile.write(Array(text.utf8), to: path, mode: 0o600)
        }
    }

    /// Where the head of the list of revocations is kept: `revocations.head`, the count and the last MAC.
    var revocationsStore: Revocations.Store {
        let path = path("revocations.head")
        return Revocations.Store {
            guard fileExists(path) else { return nil }
            let words = String(decoding: try readFile(path, max: 256), as: UTF8.self).split(separator: " ")
            guard words.count == 2, let count = Int(words[0]), let mac = Hex.decode(String(words[1])) else {
                throw CommandError("\(path) does not hold the head of the list of revocations")
            }
            return Revocations.Head(count: count, mac: mac)
        } write: { head in
            try DurableFile.write(
                Array("\(head.count) \(Hex.encode(head.mac[...]))".utf8), to: path, mode: 0o600)
        }
    }

    /// Issues the certificates of both listeners: the API's for the names by which callers know it, the
    /// gateways' for those by which agents do, so that a gateway's key does not speak for the API elsewhere.
    func issueServerCertificates(api: ListenerNames, gateway: ListenerNames) throws {
        try issue(api, to: path(Self.certificate))
        try issueGatewayFiles(gateway)
    }

    /// Makes the certificate of each listener anew once two thirds of its life are over, or if it is not
    /// there: whoever moved the gateways' files to another host finds new ones here when those must be
    /// copied.
    func renewServerCertificates(api: ListenerNames, gateway: ListenerNames, now: Instant) throws {
        if isDue(path(Self.certificate), now: now) { try issue(api, to: path(Self.certificate)) }
        let files = gatewayFiles
        if isDue(files.path(GatewayFiles.certificate), now: now)
            || !fileExists(files.path(GatewayFiles.deviceCA))
        {
            try issueGatewayFiles(gateway)
        }
    }

    private func isDue(_ path: String, now: Instant) -> Bool {
        // A certificate that cannot be read is made anew, as one that is missing.
        let end = try? Certificate(pem: String(decoding: readFile(path, max: 65_536), as: UTF8.self)).notAfter
        return end.map { $0 - now.seconds < Self.serverSeconds / 3 } ?? true
    }

    private func issueGatewayFiles(_ names: ListenerNames) throws {
        let files = gatewayFiles
        try Directory.make(files.directory, mode: 0o700)
        let deviceCA = try authority("device-ca", "CloudRMM device CA").certificate
        try DurableFile.write(
            Array(deviceCA.pem.utf8), to: files.path(GatewayFiles.deviceCA), mode: 0o644)
        try issue(names, to: files.path(GatewayFiles.certificate))
    }

    private func issue(_ names: ListenerNames, to path: String) throws {
        let key = P256Key()
        let certificate = try authority("server-ca", "CloudRMM server CA").issueServer(
            for: key, dnsNames: names.names.sorted(), ipAddresses: names.addresses.sorted(),
            validitySeconds: Self.serverSeconds)
        // Key and certificate in one file, so that nobody ever reads halves of two.
        try DurableFile.write(Array((certificate.pem + key.pem).utf8), to: path, mode: 0o600)
    }

    static let serverSeconds: Int64 = 90 * 86_400
    private static let certificate = "server.pem"

    /// TLS of the API: no client certificate, 1.2 and 1.3.
    func apiTLS() throws -> ListenerFiles {
        ListenerFiles(server: try read(Self.certificate), minimum: .v12)
    }

    /// The authority of gateways and API, and that of devices.
    func authorities() throws -> (server: CertificateAuthority, device: CertificateAuthority) {
        (try authority("server-ca", "CloudRMM server CA"), try authority("device-ca", "CloudRMM device CA"))
    }

    /// The installation's id.
    func deployment() throws -> DeploymentID {
        let text = try text("deployment") { DeploymentID.new(at: .now()).description }
        guard let id = DeploymentID(text) else {
            throw CommandError("\(path("deployment")) does not hold an id")
        }
        return id
    }

    private func authority(_ name: String, _ commonName: String) throws -> CertificateAuthority {
        if !fileExists(path("\(name).pem")) {
            let made = try CertificateAuthority.make(commonName: commonName, validitySeconds: 3_650 * 86_400)
            try DurableFile.write(Array(made.keyPEM.utf8), to: path("\(name).key"), mode: 0o600)
            try DurableFile.write(Array(made.certificate.pem.utf8), to: path("\(name).pem"), mode: 0o644)
        }
        return try CertificateAuthority(certificatePEM: read("\(name).pem"), keyPEM: read("\(name).key"))
    }

    private func text(_ name: String, make: () -> String) throws -> String {
        String(decoding: try bytes(name) { Array(make().utf8) }, as: UTF8.self)
    }

    func bytes(_ name: String, make: () -> [UInt8]) throws -> [UInt8] {
        if !fileExists(path(name)) { try DurableFile.write(make(), to: path(name), mode: 0o600) }
        return try readFile(path(name), max: 65_536)
    }

    private func read(_ name: String) throws -> String {
        String(decoding: try readFile(path(name), max: 65_536), as: UTF8.self)
    }

    func path(_ name: String) -> String { "\(directory)/\(name)" }
}

/// The names and addresses by which others know a listener; those of this machine always.
struct ListenerNames: Sendable {
    var names: Set<String> = ["localhost"]
    var addresses: Set<String> = ["127.0.0.1", "::1"]
}

/// A sentence for the person at the terminal.
struct CommandError: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }
}
