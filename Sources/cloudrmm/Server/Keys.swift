import Access
import ArgumentParser
import Domain
import Engine
import Ledger
import Postgres
import Process
import Trust

/// `cloudrmm keys …`: what only whoever holds the installation's own keys can do.
struct Keys: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract:
            "The installation's own keys: what agents believe, what is stored sealed, the first API key.",
        subcommands: [
            Init.self, Show.self, Rotate.self, Retire.self, Export.self, CreateAdministrator.self,
            RotateSealing.self, Reseal.self,
        ])

    /// The first key of an installation that 'cloudrmm serve' runs: every other key is made through the API.
    struct CreateAdministrator: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "create-administrator",
            abstract: "Make an API key of the whole platform and print it.",
            discussion: """
                Needs DATABASE_URL (the API's login) and the API's directory of keys; run 'cloudrmm \
                migrate' first. The key is printed here and never again.
                """)

        @Option(
            help: "The directory of the installation's keys; else $CLOUDRMM_KEYS_DIR, else .cloudrmm/keys.")
        var keysDir: String?

        @Option(help: "What the key is called.")
        var name = "administrator"

        @Option(help: "Days until it ends.")
        var expiresInDays = 30

        @OptionGroup var options: SettingsOptions

        func validate() throws {
            guard (1...3_650).contains(expiresInDays) else {
                throw ValidationError("--expires-in-days is \(expiresInDays); allowed are 1 to 3650")
            }
        }

        func run() async throws {
            let given = try options.settings([.keysDir: keysDir])
            let url = try given.require(.databaseURL, for: "create-administrator")
            let configuration = try given.parse(.databaseURL, url) { try PostgresConfiguration(url: $0) }
            let directory = given.keysDirectory
            let keys = try KeyFiles(directory: directory).openAPIKeys()
            let pool = PostgresPool(
                configuration: configuration, logger: try makeLogger(level: "warning"))
            pool.start()
            let ledger = Ledger(pool: pool)
            let deployment = try await ledger.deployment(orCreate: keys.signer.deployment)
            guard deployment == keys.signer.deployment else {
                throw CommandError(
                    "the keys in \(directory) belong to another installation than the database")
            }
            let (_, secret) = try await Authenticator(
                ledger: ledger, seals: keys.seals,
                // A key of the platform hangs on no row, and nothing is revoked here.
                judge: keys.judge { _ in }, store: .memory
            ).createKey(
                name: name, level: .platform, permissions: Permission.all,
                expiresIn: .seconds(expiresInDays * 86_400), by: nil)
            await pool.close()
            printLine(secret)
        }
    }
}
