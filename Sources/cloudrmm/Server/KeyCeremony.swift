import Domain
import Engine
import Foundation
import Process
import Trust
import Wire

/// Who signs key sets: the holder of the root key, which need not be on this host.
enum RootKey {
    /// A file with its seed of 32 bytes.
    case file(String)
    /// A command that is given the bytes to be signed and answers with the signature: 64 bytes, or their
    /// base64.
    case command(String, VerifyingKey)

    /// The public key; reads the file.
    func publicKey() throws -> VerifyingKey {
        switch self {
        case .file(let path): try Self.key(at: path).publicKey
        case .command(_, let key): key
        }
    }

    /// Has a statement signed, and verifies that it was.
    func sign(_ statement: Statement) async throws -> SignedStatement {
        switch self {
        case .file(let path): return SignedStatement.sign(statement, with: try Self.key(at: path))
        case .command(let command, let key):
            return try await SignedStatement.sign(statement, as: key) { bytes in
                try await Self.run(command, bytes)
            }
        }
    }

    private static func key(at path: String) throws -> SigningKey {
        do {
            return try SigningKey(seed: readFile(path, max: 4_096))
        } catch {
            throw CommandError("the root key in \(path) cannot be read: \(error)")
        }
    }

    /// Enough for a person who confirms it on a device.
    private static let signerSeconds = 600.0

    private static func run(_ command: String, _ bytes: [UInt8]) async throws -> [UInt8] {
        let report = try await ScriptRun(marker: "root-signer").runToEnd(
            ChildOptions(
                executable: "/bin/sh", arguments: ["-c", command],
                environment: ProcessInfo.processInfo.environment.map { ($0.key, $0.value) }),
            stdin: bytes,
            limits: RunLimits(timeoutSeconds: Self.signerSeconds, headBytes: 4_096, tailBytes: 0))
        guard report.exit == .exited(0), !report.timedOut else {
            let said = String(decoding: report.stderr.head.prefix(500), as: UTF8.self)
                .trimmingCharacters(in: .whitespacesAndNewlines)
            let end =
                switch report.exit {
                case _ where report.timedOut: "did not answer within \(Int(Self.signerSeconds)) s"
                case .exited(let code): "ended with exit code \(code)"
                case .signaled(let number): "ended by signal \(number)"
                }
            throw CommandError(
                "the command that signs with the root key \(end)"
                    + (said.isEmpty ? "" : ": \(printable(said))"))
        }
        let answer = report.stdout.head
        if answer.count == VerifyingKey.signatureByteCount { return answer }
        let text = String(decoding: answer, as: UTF8.self).trimmingCharacters(in: .whitespacesAndNewlines)
        guard let data = Data(base64Encoded: text), data.count == VerifyingKey.signatureByteCount else {
            throw CommandError(
                "the command that signs with the root key answered \(answer.count) bytes; expected are "
                    + "64, or their base64")
        }
        return Array(data)
    }
}

/// The key set of an installation: which job keys hold. It changes in steps that may be cut off anywhere:
/// a new set is signed and stored before the key signs that it names, and a key is removed only with the last
/// set that names it.
extension KeyFiles {
    /// What a key set says, for people.
    struct KeySetSummary {
        let version: Int
        let signs: String
        let others: [String]

        init(_ signer: Signer) {
            version = signer.keySetVersion
            signs = signer.jobKey.id
            others = signer.jobKeys.filter { $0 != signer.jobKey }.map(\.id)
        }

        var line: String {
            let still = others.isEmpty ? "" : "; what \(others.joined(separator: ", ")) signed still holds"
            return "key set \(version): key \(signs) signs\(still)"
        }
    }

    private static let rootSeed = "root.seed"
    private static let rootPublic = "root.pub"
    private static let keySet = "keyset"
    private static let jobSeed = "job.seed"
    private static let nextSeed = "job-next.seed"

    /// What the API role signs with. An installation without a key set gets its first here, signed by the
    /// root key beside it, which is made where there is none.
    func signer(of deployment: DeploymentID) throws -> Signer {
        if !fileExists(path(Self.keySet)) {
            // A root key that was said to be elsewhere is not made anew here.
            let isElsewhere = fileExists(path(Self.rootPublic)) && !fileExists(path(Self.rootSeed))
            guard !isElsewhere else {
                throw CommandError(
                    "\(path(Self.keySet)) is missing, and the root key that signs it is not here: run "
                        + "'cloudrmm keys init' to its end, or put the file back")
            }
            _ = try bytes(Self.rootSeed) { Trust.randomBytes(SigningKey.seedByteCount) }
            let root = try SigningKey(seed: readFile(path(Self.rootSeed), max: 4_096))
            try write(root: root.publicKey)
            try write(SignedStatement.sign(firstKeySet(), with: root))
        }
        return try storedSigner(of: deployment)
    }

    /// The root key in this directory, if it is here.
    var ownRootKey: RootKey? {
        fileExists(path(Self.rootSeed)) ? .file(path(Self.rootSeed)) : nil
    }

    /// The public root key.
    func rootPublicKey() throws -> VerifyingKey {
        let text = String(decoding: try readFile(path(Self.rootPublic), max: 4_096), as: UTF8.self)
        guard let bytes = Hex.decode(text.trimmingCharacters(in: .whitespacesAndNewlines)) else {
            throw CommandError("\(path(Self.rootPublic)) does not hold a key")
        }
        return try VerifyingKey(bytes: bytes)
    }

    /// Makes all the keys of a new installation, the first key set signed by `root`; with `nil` the root key
    /// is made and kept in the directory.
    ///
    /// One that failed, as when nobody signed, goes on when it is called again.
    func make(root: RootKey?) async throws -> Signer {
        try requireNew()
        if let root {
            // First, so that no other root key is made here.
            try write(root: root.publicKey())
            try write(await root.sign(firstKeySet()))
        }
        return try openAPIKeys().signer
    }

    /// Whether a directory holds the keys of an installation, also one from before key sets were kept, or one
    /// whose making was cut off.
    static func hasInstallation(_ directory: String) -> Bool {
        [keySet, jobSeed].contains { fileExists("\(directory)/\($0)") }
    }

    /// Throws where there is an installation already.
    func requireNew() throws {
        let isOlder = fileExists(path(Self.rootSeed)) && fileExists(path(Self.jobSeed))
        guard !fileExists(path(Self.keySet)), !isOlder else {
            throw CommandError("\(directory) holds the keys of an installation already")
        }
    }

    /// One ceremony at a time: who waits for the root key must not find its next key gone.
    private func alone<Value>(_ body: () async throws -> Value) async throws -> Value {
        let lock = try FileLock(path("ceremony.lock"))
        defer { lock.release() }
        return try await body()
    }

    /// Makes another job key, has a key set signed that names it beside those before, and signs with it from
    /// then on. The seed of the one before goes.
    func rotateJobKey(root: RootKey) async throws -> Signer {
        try await alone { try await rotate(root: root) }
    }

    private func rotate(root: RootKey) async throws -> Signer {
        let signer = try finishedSigner()
        try await require(root, of: signer)
        guard signer.jobKeys.count < Self.jobKeysMax else {
            throw CommandError(
                "\(signer.jobKeys.count) job keys hold, which is the limit; retire those that are not needed")
        }
        let seed = Trust.randomBytes(SigningKey.seedByteCount)
        let next = try SigningKey(seed: seed)
        try DurableFile.write(seed, to: path(Self.nextSeed), mode: 0o600)
        let statement = try newKeySet(after: signer, jobKeys: signer.jobKeys + [next.publicKey])
        try write(try await root.sign(statement))
        return try finishedSigner()
    }

    /// Has a key set signed that names the job key that signs and no other; `key` must be that one.
    func retireJobKeys(allBut key: VerifyingKey, root: RootKey) async throws -> Signer {
        try await alone {
            let signer = try finishedSigner()
            guard signer.jobKey == key else {
                throw CommandError("another key signs by now: \(signer.jobKey.id)")
            }
            try await require(root, of: signer)
            try write(try await root.sign(newKeySet(after: signer, jobKeys: [signer.jobKey])))
            return try finishedSigner()
        }
    }

    /// Writes the seed of the root key to another file, which must not be there yet, and removes it from the
    /// directory. One that was cut off in between goes on when it is called again.
    func moveRootKey(to file: String) throws {
        guard case .file(let own)? = ownRootKey else {
            throw CommandError("the root key is not in \(directory)")
        }
        guard !file.hasPrefix(directory + "/") else {
            throw CommandError("\(file) is in the directory that the root key is to leave")
        }
        let seed = try readFile(own, max: 4_096)
        if fileExists(file) {
            guard try readFile(file, max: 4_096) == seed else {
                throw CommandError("\(file) is there already, and is not this root key")
            }
        } else {
            try DurableFile.write(seed, to: file, mode: 0o600)
        }
        guard try RootKey.file(file).publicKey() == rootPublicKey() else {
            throw CommandError(
                "\(file) does not hold what was written there; the root key was left in \(own)")
        }
        try removeFile(own)
        try DurableFile.syncDirectory(directory)
    }

    private func storedSigner(of deployment: DeploymentID) throws -> Signer {
        let (server, device) = try authorities()
        return try Signer(
            deployment: deployment, rootKey: rootPublicKey(),
            keySet: SignedStatement(encoded: readFile(path(Self.keySet), max: 1 << 20)),
            jobKey: SigningKey(seed: readFile(path(Self.jobSeed), max: 4_096)),
            serverCA: server.certificate, deviceCA: device, now: .now())
    }

    /// The signer, after a rotation that was cut off behind its key set has come to its end. A next key that
    /// no set names is forgotten.
    func finishedSigner() throws -> Signer {
        let signer = try signer(of: deployment())
        guard fileExists(path(Self.nextSeed)) else { return signer }
        let next = try SigningKey(seed: readFile(path(Self.nextSeed), max: 4_096))
        guard signer.jobKeys.contains(next.publicKey) else {
            try removeFile(path(Self.nextSeed))
            return signer
        }
        try renameFile(path(Self.nextSeed), to: path(Self.jobSeed))
        try DurableFile.syncDirectory(directory)
        return try storedSigner(of: signer.deployment)
    }

    private func require(_ root: RootKey, of signer: Signer) async throws {
        let key = try root.publicKey()
        guard key == signer.rootKey else {
            throw CommandError(
                "the root key \(key.id) is not this installation's, which is \(signer.rootKey.id)")
        }
    }

    private func firstKeySet() throws -> Statement {
        let job = try SigningKey(
            seed: bytes(Self.jobSeed) { Trust.randomBytes(SigningKey.seedByteCount) })
        let (server, device) = try authorities()
        return Signer.keySet(
            version: 1, jobKeys: [job.publicKey], serverCA: server.certificate, deviceCA: device.certificate,
            deployment: try deployment(), now: .now())
    }

    private func newKeySet(after signer: Signer, jobKeys: [VerifyingKey]) throws -> Statement {
        let (server, device) = try authorities()
        return Signer.keySet(
            version: signer.keySetVersion + 1, jobKeys: jobKeys, serverCA: server.certificate,
            deviceCA: device.certificate, deployment: signer.deployment, now: .now())
    }

    private func write(root key: VerifyingKey) throws {
        try DurableFile.write(Array(Hex.encode(key.bytes).utf8), to: path(Self.rootPublic), mode: 0o600)
    }

    private func write(_ keySet: SignedStatement) throws {
        try DurableFile.write(keySet.encoded, to: path(Self.keySet), mode: 0o600)
    }

    /// As many as a key set may name.
    private static let jobKeysMax = 16
}
