import Access
import ArgumentParser
import Client
import Domain
import Ledger
import Postgres
import Trust
import Wire

/// `cloudrmm audit …`
struct AuditVerbs: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "audit", abstract: "What was changed and what was refused.",
        subcommands: [List.self, Export.self, Verify.self, Prune.self, Discard.self],
        defaultSubcommand: List.self)

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List the audit log, newest first.")
        @Option(help: "Only the log of this partner or organization.") var log: ID<Subject.Tenant>?
        @Option(help: "Only what this key or person did.") var actor: PrincipalID?
        @Option(help: "Only what was done to this.") var subject: ID<Subject.Tenant>?
        @Option(help: "Only actions that begin so, such as api_keys. or DELETE.") var action: String?
        @Flag(help: "Only refused attempts.") var refused = false
        @OptionGroup var list: ListOptions
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                let entries = try await list.items {
                    try await api.audit(
                        log: log, actor: actor, subject: subject, action: action,
                        refused: refused ? true : nil, $0)
                }
                let table = Table("AT", "WHO", "FROM", "WHAT", "TO", "OUTCOME", "ENTRY")
                connection.show(entries, table) { table, entry in
                    let who = entry.actorId.map { "\(entry.actor) \($0)" } ?? entry.actor
                    table.add(
                        entry.at.description, who, entry.address ?? "–", entry.action,
                        entry.subjectId?.description ?? "–",
                        entry.refused ? "refused: \(entry.after ?? "")" : "done",
                        entry.position.map(String.init) ?? "not sealed yet")
                }
            }
        }
    }

    struct Export: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Write the audit log as lines of JSON, newest first.")
        @Option(help: "Only the log of this partner or organization.") var log: ID<Subject.Tenant>?
        @Option(help: "Only what is not older, such as 2026-03-01T00:00:00Z.") var since: Instant?
        @Option(help: "Only what is older.") var until: Instant?
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                var cursor: String?
                repeat {
                    let page = try await api.audit(
                        log: log, since: since, until: until, PageOptions(limit: 500, cursor: cursor))
                    for entry in page.items { printLine(String(decoding: entry.json, as: UTF8.self)) }
                    cursor = page.next
                } while cursor != nil
            }
        }
    }

    /// How verbs that read the log itself find the database and the keys.
    struct InstallationOptions: ParsableArguments {
        @Option(help: "Data directory of a running `cloudrmm up`.") var dataDir: String?
        @Option(
            help: "The directory of the installation's keys; else $CLOUDRMM_KEYS_DIR, else .cloudrmm/keys.")
        var keysDir: String?
        @OptionGroup var options: SettingsOptions

        /// Runs on the installation's log: the ledger on the API's login or on the owner's, who alone takes
        /// out of what is in use, and the keys.
        func withLog(
            for verb: String, asOwner: Bool = false,
            _ body: (Ledger, AuditSealer, RowSeals) async throws -> Void
        ) async throws {
            var given = try options.settings([.keysDir: keysDir])
            var directory = given.keysDirectory
            let setting = asOwner ? Setting.ownerDatabaseURL : .databaseURL
            if let dataDir {
                let ready = try ReadyFile.find(in: dataDir)?.ready
                guard let url = asOwner ? ready?.ownerDatabaseURL : ready?.databaseURL else {
                    throw Failure(.unreachable, "\(dataDir) has no running installation")
                }
                given = try options.settings([setting: url, .keysDir: keysDir])
                directory = keysDir ?? "\(dataDir)/keys"
            }
            let configuration = try given.parse(setting, given.require(setting, for: verb)) {
                try PostgresConfiguration(url: $0)
            }
            let files = try KeyFiles(directory: directory)
            let keys = try files.openAPIKeys()
            let pool = PostgresPool(configuration: configuration, logger: try makeLogger(level: "warning"))
            pool.start()
            let ledger = Ledger(pool: pool)
            let sealer = AuditSealer(
                ledger: ledger, seals: keys.seals, store: files.auditStore(keys.seals))
            do {
                try await body(ledger, sealer, keys.seals)
            } catch {
                await pool.close()
                throw error
            }
            await pool.close()
        }
    }

    struct Verify: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Verify the chains of the audit log, without the API.",
            discussion: """
                Reads the database and the installation's own keys. Names the first entry of each log that \
                was changed, taken out or cut off, and ends with 1 if there is one. With --data-dir both are \
                those of 'cloudrmm up', which runs; else DATABASE_URL and --keys-dir name them.
                """)
        @OptionGroup var installation: InstallationOptions

        func run() async throws {
            try await reportingFailures {
                try await installation.withLog(for: "audit verify") { _, sealer, _ in
                    try AuditVerbs.tell(await sealer.verify(), "hold")
                }
            }
        }
    }

    struct Prune: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Take what is old out of the audit log, behind checkpoints, without the API.",
            discussion: """
                Every log is verified first, and one that does not hold is left as it is. A checkpoint says \
                under a MAC where a log begins from now on. Export what you have to keep before. Finds the \
                installation as 'audit verify' does, but as the database's owner: without --data-dir, \
                CLOUDRMM_OWNER_DATABASE_URL names the database.
                """)
        @Option(help: "How many days are kept, 1 to 36500.") var keepDays: Int
        @OptionGroup var installation: InstallationOptions

        func validate() throws {
            guard (1...36_500).contains(keepDays) else {
                throw ValidationError("--keep-days is \(keepDays); allowed are 1 to 36500")
            }
        }

        func run() async throws {
            try await reportingFailures {
                try await installation.withLog(for: "audit prune", asOwner: true) { _, sealer, _ in
                    let before = Instant.now() + .seconds(-keepDays * 86_400)
                    try AuditVerbs.tell(await sealer.prune(before: before), "were taken out")
                }
            }
        }
    }

    struct Discard: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Take out a log that does not hold, of what is being erased, without the API.",
            discussion: """
                An erasure waits if its log does not hold, since the log is what would tell of it. This \
                takes the log out, and writes what is wrong with it into the platform's log; the erasure \
                goes on by itself. Finds the installation as 'audit prune' does.
                """)
        @Argument(help: "The organization or the partner that is being erased.") var log: ID<Subject.Tenant>
        @OptionGroup var installation: InstallationOptions

        func run() async throws {
            try await reportingFailures {
                try await installation.withLog(for: "audit discard", asOwner: true) {
                    let eraser = Eraser(ledger: $0, sealer: $1, seals: $2)
                    let fault = try await eraser.discardLog(of: log.value)
                    Terminal.print("taken out, as the platform's log says from now on: \(fault)")
                }
            }
        }
    }

    private static func tell(_ report: AuditSealer.Report, _ done: String) throws {
        for fault in report.faults { Terminal.print(fault.description) }
        guard report.faults.isEmpty else {
            throw Failure(.failedRuns, "\(report.faults.count) of \(report.chains) logs do not hold")
        }
        Terminal.print("\(report.entries) entries in \(report.chains) logs \(done)")
    }
}
