import Access
import ArgumentParser
import Domain
import Engine
import Ledger
import Postgres
import Trust

extension Keys {
    /// Another key for what is stored sealed.
    struct RotateSealing: ParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "rotate-sealing",
            abstract: "Make a new key for stored secrets; the one before still opens what it sealed.",
            discussion: """
                Then start the API roles anew, so that all of them have it, and run 'cloudrmm keys reseal'.
                """)

        @Option(
            help: "The directory of the installation's keys; else $CLOUDRMM_KEYS_DIR, else .cloudrmm/keys.")
        var keysDir: String?

        @OptionGroup var options: SettingsOptions

        func run() throws {
            let given = try options.settings([.keysDir: keysDir])
            let id = try KeyFiles(directory: given.keysDirectory).rotateSealingKey()
            printLine("the key of stored secrets is \(id) now; start the API roles anew, then reseal")
        }
    }

    /// Puts everything under the newest key.
    struct Reseal: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Put all stored secrets under the newest key.",
            discussion: """
                Needs DATABASE_URL (the API's login) and the API's directory of keys. It may be stopped \
                and run again at any time. Ends with 1 if something does not open.
                """)

        @Option(
            help: "The directory of the installation's keys; else $CLOUDRMM_KEYS_DIR, else .cloudrmm/keys.")
        var keysDir: String?

        @Flag(help: "Remove the keys before, if nothing is left that needs them.")
        var retire = false

        @OptionGroup var options: SettingsOptions

        func run() async throws {
            let given = try options.settings([.keysDir: keysDir])
            let url = try given.require(.databaseURL, for: "reseal")
            let configuration = try given.parse(.databaseURL, url) { try PostgresConfiguration(url: $0) }
            let files = try KeyFiles(directory: given.keysDirectory)
            let keys = try files.openAPIKeys()
            let pool = PostgresPool(
                configuration: configuration, logger: try makeLogger(level: "warning"))
            pool.start()
            let ledger = Ledger(pool: pool)
            guard try await ledger.deployment() == keys.signer.deployment else {
                throw CommandError(
                    "the keys in \(files.directory) belong to another installation than the database")
            }
            let outcome = try await Resealer(ledger: ledger, keys: keys.sealing, seals: keys.seals).run()
            await pool.close()
            for left in outcome.left { Terminal.complain("does not open, and is left as it is: \(left)") }
            var line = "resealed \(outcome.resealed), left \(outcome.left.count)"
            if retire, outcome.left.isEmpty { line += ", retired \(try files.retireSealingKeys())" }
            printLine(line)
            guard outcome.left.isEmpty else { throw ExitCode(Failure.Code.failedRuns.rawValue) }
        }
    }
}
