import ArgumentParser
import Domain
import Engine
import Ledger
import Postgres
import Process
import Trust
import Wire

/// The directory of an installation's keys.
struct KeysOptions: ParsableArguments {
    @Option(help: "The directory of the installation's keys; else $CLOUDRMM_KEYS_DIR, else .cloudrmm/keys.")
    var keysDir: String?

    @OptionGroup var options: SettingsOptions

    func settings() throws -> Settings { try options.settings([.keysDir: keysDir]) }

    /// A directory that may be empty or not there yet.
    func files() throws -> KeyFiles { try KeyFiles(directory: settings().keysDirectory) }

    /// The directory of an installation: one that is empty is somebody's mistake, and gets no keys here.
    func installation() throws -> KeyFiles {
        let directory = try settings().keysDirectory
        guard KeyFiles.hasInstallation(directory) else {
            throw CommandError(
                "there are no keys of an installation in \(directory); name the directory by --keys-dir, or "
                    + "make some with 'cloudrmm keys init'")
        }
        return try KeyFiles(directory: directory)
    }
}

/// Where the root key is, if not in the directory.
struct RootKeyOptions: ParsableArguments {
    @Option(help: "The file with the seed of the root key, if it is not in the directory.")
    var rootKey: String?

    @Option(
        help: """
            A shell command that signs with the root key instead: it reads the bytes from its standard input \
            and writes the Ed25519 signature, 64 bytes or their base64.
            """)
    var rootSigner: String?

    func validate() throws {
        guard rootKey == nil || rootSigner == nil else {
            throw ValidationError("--root-key and --root-signer exclude each other")
        }
    }

    /// The root key of an installation.
    func root(of files: KeyFiles) throws -> RootKey {
        if let rootKey { return .file(absolutePath(rootKey)) }
        if let rootSigner { return .command(rootSigner, try files.rootPublicKey()) }
        guard let own = files.ownRootKey else {
            throw CommandError(
                "the root key is not in \(files.directory); say by --root-key or --root-signer where it is")
        }
        return own
    }
}

extension Keys {
    /// All keys of a new installation, before its first start.
    struct Init: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make the keys of a new installation, the root key apart if wanted.",
            discussion: """
                Without it the API makes its keys at its first start, with the root key beside them. The \
                root key signs nothing but key sets: kept elsewhere it lets nobody who takes the API's host \
                make agents believe another key for good.
                """)

        @OptionGroup var keys: KeysOptions

        @Option(help: "Write the root key to this file and not into the directory.")
        var rootKey: String?

        @Option(help: "A shell command that signs with a root key that is there already.")
        var rootSigner: String?

        @Option(help: "The public part of that key, 64 hexadecimal digits.")
        var rootPublicKey: String?

        func validate() throws {
            guard rootKey == nil || rootSigner == nil else {
                throw ValidationError("--root-key and --root-signer exclude each other")
            }
            guard (rootSigner == nil) == (rootPublicKey == nil) else {
                throw ValidationError("--root-signer and --root-public-key stand together")
            }
        }

        func run() async throws {
            let files = try keys.files()
            try files.requireNew()
            printLine(KeyFiles.KeySetSummary(try await files.make(root: root(files))).line)
        }

        private func root(_ files: KeyFiles) throws -> RootKey? {
            if let rootSigner, let rootPublicKey {
                // What kind of damage it is helps nobody.
                guard let bytes = Hex.decode(rootPublicKey), let key = try? VerifyingKey(bytes: bytes) else {
                    throw ValidationError("--root-public-key is not an Ed25519 key of 64 hexadecimal digits")
                }
                return .command(rootSigner, key)
            }
            guard let rootKey else { return nil }
            let path = absolutePath(rootKey)
            let root = RootKey.file(path)
            guard fileExists(path) else {
                try DurableFile.write(
                    Trust.randomBytes(SigningKey.seedByteCount), to: path, mode: 0o600)
                return root
            }
            // One that was cut off behind this goes on; any other file is somebody's.
            guard let begun = try? files.rootPublicKey(), try root.publicKey() == begun else {
                throw CommandError("\(path) is there already")
            }
            return root
        }
    }

    /// Which keys hold.
    struct Show: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show which key signs, which others still hold, and where the root key is.")

        @OptionGroup var keys: KeysOptions

        func run() throws {
            let files = try keys.installation()
            let signer = try files.openAPIKeys().signer
            printLine(KeyFiles.KeySetSummary(signer).line)
            printLine(
                "root key \(signer.rootKey.id): "
                    + (files.ownRootKey == nil ? "kept elsewhere" : "in \(files.directory)"))
        }
    }

    /// Another key that signs jobs.
    struct Rotate: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make another job key; what the one before has signed still holds.",
            discussion: """
                Then start the API roles anew: they publish the key set, and gateways hand it to every \
                agent before the first job that the new key has signed. 'cloudrmm keys retire' takes the \
                keys before out of force.
                """)

        @OptionGroup var keys: KeysOptions
        @OptionGroup var root: RootKeyOptions

        func run() async throws {
            let files = try keys.installation()
            let signer = try await files.rotateJobKey(root: root.root(of: files))
            printLine(KeyFiles.KeySetSummary(signer).line + "; start the API roles anew")
        }
    }

    /// The keys before end.
    struct Retire: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Take all job keys out of force but the one that signs.",
            discussion: """
                Needs DATABASE_URL (the API's login). Signs the devices' assignments anew first, and \
                refuses while jobs are open or enrolment tokens may be used that the keys before have \
                signed: agents would refuse them. Then start the API roles anew. It may be stopped and run \
                again at any time.
                """)

        @OptionGroup var keys: KeysOptions
        @OptionGroup var root: RootKeyOptions

        @Flag(help: "Retire them all the same: a key that was stolen must not wait for open jobs.")
        var force = false

        func run() async throws {
            let settings = try keys.settings()
            let url = try settings.require(.databaseURL, for: "retire")
            let configuration = try settings.parse(.databaseURL, url) { try PostgresConfiguration(url: $0) }
            let files = try keys.installation()
            let root = try root.root(of: files)
            // What is retired is judged by the key that stays: a rotation that was cut off comes first.
            let signer = try files.finishedSigner()
            guard signer.jobKeys.count > 1 else { throw CommandError("no other job key is in force") }
            let pool = PostgresPool(
                configuration: configuration, logger: try makeLogger(level: "warning"))
            pool.start()
            let ledger = Ledger(pool: pool)
            guard try await ledger.deployment() == signer.deployment else {
                throw CommandError(
                    "the keys in \(files.directory) belong to another installation than the database")
            }
            let published = try await ledger.newestKeySet()?.statement
            guard force || published == signer.keySet.encoded else {
                throw CommandError(
                    "key set \(signer.keySetVersion) is not published: start the API roles anew first, so "
                        + "that they sign with its key")
            }
            let retirement = KeyRetirement(ledger: ledger, signer: signer)
            let (signed, left) = try await retirement.resign()
            // A key that was stolen does not wait for what is counted either.
            let use = force ? .none : try await retirement.use()
            await pool.close()
            for device in left { Terminal.complain("its assignment does not hold: device \(device)") }
            guard force || (use == KeyUse.none && left.isEmpty) else {
                throw CommandError(
                    "assignments signed anew: \(signed); still under the keys before: open jobs "
                        + "\(use.openJobs), enrolment tokens \(use.tokens), assignments \(left.count). Wait "
                        + "for them, revoke them, or say --force")
            }
            let after = try await files.retireJobKeys(allBut: signer.jobKey, root: root)
            printLine(
                "assignments signed anew: \(signed); " + KeyFiles.KeySetSummary(after).line
                    + "; start the API roles anew")
        }
    }

    /// What may be known of the keys by anybody, and the root key for its owner.
    struct Export: ParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Print what verifies this installation's statements; move the root key elsewhere.")

        @OptionGroup var keys: KeysOptions

        @Option(help: "Write the root key to this file, and remove it from the directory.")
        var rootKey: String?

        func run() throws {
            let files = try keys.installation()
            let signer = try files.openAPIKeys().signer
            if let rootKey { try files.moveRootKey(to: absolutePath(rootKey)) }
            var writer = JSONWriter()
            writer.object { writer in
                writer.field("deploymentId", signer.deployment)
                writer.field("rootKey", Base64Bytes(signer.rootKey.bytes))
                writer.field("rootKeyHash", Hex.encode(SHA256.hash(signer.rootKey.bytes)))
                writer.field("keySetVersion", signer.keySetVersion)
                writer.field("keySet", Base64Bytes(signer.keySet.encoded))
                writer.field("jobKeys", signer.jobKeys.map { Base64Bytes($0.bytes) })
                writer.field("serverCA", signer.serverCA.pem)
            }
            printLine(String(decoding: writer.bytes, as: UTF8.self))
        }
    }
}
