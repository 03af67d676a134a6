import Domain
import Engine
import Process
import Trust

/// The installation's keys in a directory that only its owner can read: made at first start, the same ever
/// after.
///
/// | file | what | read by |
/// |---|---|---|
/// | `deployment` | the installation's id | API |
/// | `root.seed`, `job.seed` | Ed25519 seeds: the key set's and everything else's signer | API |
/// | `mac.key` | the key of MACs over rows that grant power | API |
/// | `server-ca.pem`, `server-ca.key` | the authority of gateways and API | API; the certificate is public |
/// | `device-ca.pem`, `device-ca.key` | the authority of devices | API; gateways read the certificate |
/// | `server.pem` | certificate and key of the listeners, made anew at each start and in time | both |
/// | `tickets.key` | seals TLS tickets, shared by gateways | gateway |
struct KeyFiles {
    let directory: String

    /// Everything the API role holds.
    struct APIKeys {
        let signer: Signer
        let macKey: MACKey
        let macKeyID: String
    }

    /// The keys in a directory; what is missing is made, durably.
    init(directory: String) throws {
        self.directory = directory
        try Directory.make(directory, mode: 0o700)
    }

    var serverCAPath: String { path("server-ca.pem") }

    /// Opens or makes the keys of the API role.
    func openAPIKeys() throws -> APIKeys {
        let deployment = try text("deployment") { DeploymentID.new(at: .now()).description }
        guard let deploymentID = DeploymentID(deployment) else {
            throw CommandError("\(path("deployment")) does not hold an id")
        }
        let root = try SigningKey(seed: bytes("root.seed") { randomBytes(SigningKey.seedByteCount) })
        let job = try SigningKey(seed: bytes("job.seed") { randomBytes(SigningKey.seedByteCount) })
        let macBytes = try bytes("mac.key") { randomBytes(32) }
        let serverCA = try authority("server-ca", "CloudRMM server CA")
        let deviceCA = try authority("device-ca", "CloudRMM device CA")
        let signer = Signer(
            deployment: deploymentID, rootKey: root, jobKey: job, keySetVersion: 1,
            serverCA: serverCA.certificate,
            deviceCA: deviceCA, now: .now())
        return APIKeys(
            signer: signer, macKey: try MACKey(bytes: macBytes),
            macKeyID: Hex.encode(SHA256.hash(macBytes).prefix(8)))
    }

    /// Issues this host's server certificate for the names that callers use.
    func issueServerCertificate(names: [String], addresses: [String]) throws {
        let authority = try authority("server-ca", "CloudRMM server CA")
        let key = P256Key()
        let certificate = try authority.issueServer(
            for: key, dnsNames: names, ipAddresses: addresses, validitySeconds: Self.serverSeconds)
        // Key and certificate in one file, so that nobody ever reads halves of two.
        try DurableFile.write(
            Array((certificate.pem + key.pem).utf8), to: path("server.pem"), mode: 0o600)
    }

    /// Makes the server certificate anew once two thirds of its life are over.
    func renewServerCertificate(names: [String], addresses: [String], now: Instant) throws {
        let left = try Certificate(pem: read("server.pem")).notAfter - now.seconds
        guard left < Self.serverSeconds / 3 else { return }
        try issueServerCertificate(names: names, addresses: addresses)
    }

    private static let serverSeconds: Int64 = 90 * 86_400

    /// TLS of the API: no client certificate, 1.2 and 1.3.
    func apiTLS() throws -> TLSContext {
        let server = try read("server.pem")
        return try TLSContext.server(
            certificatePEM: server, keyPEM: server, clientCA: nil, minimum: .v12, alpn: ["http/1.1"])
    }

    /// TLS of the gateway: a device's certificate is asked for, 1.3 only.
    func gatewayTLS() throws -> TLSContext {
        let server = try read("server.pem")
        return try TLSContext.server(
            certificatePEM: server, keyPEM: server, clientCA: read("device-ca.pem"), minimum: .v13,
            alpn: ["http/1.1"],
            ticketKeys: bytes("tickets.key") { randomBytes(TLSContext.ticketKeyByteCount) })
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

    private func bytes(_ name: String, make: () -> [UInt8]) throws -> [UInt8] {
        if !fileExists(path(name)) { try DurableFile.write(make(), to: path(name), mode: 0o600) }
        return try readFile(path(name), max: 65_536)
    }

    private func read(_ name: String) throws -> String {
        String(decoding: try readFile(path(name), max: 65_536), as: UTF8.self)
    }

    private func path(_ name: String) -> String { "\(directory)/\(name)" }

    private func randomBytes(_ count: Int) -> [UInt8] { Trust.randomBytes(count) }
}

/// A sentence for the person at the terminal.
struct CommandError: Error, CustomStringConvertible {
    let description: String

    init(_ description: String) { self.description = description }
}
