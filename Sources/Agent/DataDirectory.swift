import Domain
import Process
package import Trust
import Wire

/// The agent's state on disk, one directory of mode 0700 a device.
///
/// | name | what |
/// |---|---|
/// | `identity.json` | who the device is and where it connects; written last, so it means "enrolled" |
/// | `key.pem`, `certificate.pem` | the device's key (0600) and client certificate |
/// | `server-ca.pem` | the pinned server CA, for people; the agent itself takes it from the key set |
/// | `keyset`, `assignment` | the pinned statements, encoded |
/// | `journal` | what was promised and started |
/// | `outbox/` | results that the server has not committed |
/// | `runs/` | private directories of running scripts, and who leads their processes |
/// | `lock` | held by the running agent |
package struct DataDirectory: Sendable {
    /// The absolute path.
    package let path: String

    /// A directory, which need not be there yet; a relative path is refused, since scripts start elsewhere.
    package init(_ path: String) throws(AgentError) {
        guard path.hasPrefix("/") else {
            throw AgentError(.invalid, "the data directory \"\(path)\" must be an absolute path")
        }
        self.path = path
    }

    var journal: String { "\(path)/journal" }
    var outbox: String { "\(path)/outbox" }
    var runs: String { "\(path)/runs" }
    var lock: String { "\(path)/lock" }

    /// Whether a device lives here.
    package var isEnrolled: Bool { fileExists(file("identity.json")) }

    /// The pid of the agent that runs on this directory.
    package func runningAgent() throws -> Int32? { try FileLock.holder(of: lock) }

    /// Results that wait to be committed by the server.
    package func waitingResults() -> Int {
        // A directory that cannot be listed has no results that could be counted.
        (try? listDirectory(outbox).count { $0.hasSuffix(".json") }) ?? 0
    }

    /// Takes the directory for this process, so that two agents never share one journal; refuses one that is
    /// not this user's alone.
    func takeLock() throws -> FileLock {
        try Directory.make(path, mode: 0o700)
        try requireOwn()
        return try FileLock(lock)
    }

    /// Throws `notEnrolled` where no device lives.
    func requireEnrolled() throws(AgentError) {
        guard isEnrolled else {
            throw AgentError(
                .notEnrolled, "no device is enrolled in \(path); run cloudrmm-agent enroll first")
        }
    }

    /// Refuses a directory in which another user could put an identity, a journal or a result.
    private func requireOwn() throws(AgentError) {
        guard let status = FileStatus(path), status.isDirectory else {
            throw AgentError(.invalid, "the data directory \(path) is not there or no directory")
        }
        guard status.userID == effectiveUserID() else {
            throw AgentError(
                .invalid,
                "the data directory \(path) belongs to user \(status.userID) and not to \(effectiveUserID())")
        }
        guard status.mode & 0o022 == 0 else {
            throw AgentError(
                .invalid,
                "the data directory \(path) can be written by others (mode \(String(status.mode, radix: 8)))")
        }
    }

    /// Writes everything that a device needs, the identity last.
    func store(_ identity: Identity) throws {
        for directory in [path, outbox, runs] { try Directory.make(directory, mode: 0o700) }
        try DurableFile.write(Array(identity.key.pem.utf8), to: file("key.pem"))
        try DurableFile.write(Array(identity.certificate.pem.utf8), to: file("certificate.pem"))
        try pin(identity.verifier)
        try Journal.create(journal)
        var writer = JSONWriter()
        writer.object { writer in
            writer.field("deviceId", identity.verifier.device)
            writer.field("deploymentId", identity.verifier.deployment)
            writer.field("rootKey", Base64Bytes(identity.verifier.rootKey.bytes))
            writer.field("gatewayUrl", identity.gatewayURL)
        }
        try DurableFile.write(writer.bytes, to: file("identity.json"))
    }

    /// Makes another certificate of the device durable.
    func keep(_ certificate: Certificate) throws {
        try DurableFile.write(Array(certificate.pem.utf8), to: file("certificate.pem"))
    }

    /// Makes the pinned statements durable.
    func pin(_ verifier: Verifier) throws {
        try DurableFile.write(verifier.keySet.encoded, to: file("keyset"))
        try DurableFile.write(verifier.assignment.encoded, to: file("assignment"))
        try DurableFile.write(Array(verifier.keySet.payload.serverCA.utf8), to: file("server-ca.pem"))
    }

    /// The device that lives here.
    package func load() throws -> Identity {
        try requireEnrolled()
        do {
            func read(_ name: String) throws -> [UInt8] { try readFile(file(name), max: 1 << 20) }
            func text(_ name: String) throws -> String { String(decoding: try read(name), as: UTF8.self) }
            var reader = try FieldReader(JSONValue(scanning: read("identity.json")))
            let key = try P256Key(pem: text("key.pem"))
            let verifier = try Verifier(
                deployment: reader.field("deploymentId"), device: reader.field("deviceId"),
                keyHash: key.publicKeyHash,
                rootKey: VerifyingKey(bytes: reader.field("rootKey", Base64Bytes.self, .in(32...32)).bytes),
                pinnedKeySet: read("keyset"), pinnedAssignment: read("assignment"))
            let gatewayURL = try reader.field("gatewayUrl", String.self)
            return Identity(
                verifier: verifier, key: key, certificate: try Certificate(pem: text("certificate.pem")),
                gatewayURL: gatewayURL)
        } catch {
            throw AgentError(.damaged, "the identity in \(path) cannot be read", cause: error)
        }
    }

    private func file(_ name: String) -> String { "\(path)/\(name)" }
}

/// An enrolled device: its key, its certificate, what it believes and where it connects.
package struct Identity: Sendable {
    /// The pinned statements.
    package var verifier: Verifier
    /// The device's key, which never leaves its directory.
    package let key: P256Key
    /// The client certificate.
    package let certificate: Certificate
    /// Where its gateway listens: `wss://host:port`.
    package let gatewayURL: String
}
