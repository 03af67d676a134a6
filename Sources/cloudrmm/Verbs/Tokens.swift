import ArgumentParser
import Client
import Domain
import Trust
import Wire

/// `cloudrmm tokens …`
struct Tokens: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Enrolment tokens.",
        subcommands: [List.self, Show.self, Create.self, Revoke.self], defaultSubcommand: List.self)

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List enrolment tokens.")
        @Option(help: "Only those of this organization.") var organization: OrganizationID?
        @Option(help: "Only those of this site.") var site: SiteID?
        @OptionGroup var list: ListOptions
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                connection.show(
                    try await list.items {
                        try await api.enrollmentTokens(organization: organization, site: site, $0)
                    })
            }
        }
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show an enrolment token, but for its text.")
        @Argument(help: "Its id.") var id: EnrollmentTokenID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { connection.show([try await $0.enrollmentToken(id)]) }
        }
    }

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make an enrolment token and print it, once.")
        @Option(help: "The site that devices will belong to.") var site: SiteID
        @Option(help: "Seconds until it expires.") var expires = 3_600
        @Option(help: "How many devices may enrol with it.") var uses = 1
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                let token = try await api.createEnrollmentToken(
                    NewEnrollmentToken(siteId: site, expiresInSeconds: expires, maxUses: uses))
                switch connection.output {
                case .json: Terminal.print(json: token)
                case .table: Terminal.print(token.token)
                }
            }
        }
    }

    struct Revoke: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Revoke an enrolment token; devices that enrolled with it stay.")
        @Argument(help: "Its id.") var id: EnrollmentTokenID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { try await $0.revoke(id) }
        }
    }
}

extension ConnectionOptions {
    fileprivate func show(_ tokens: [EnrollmentToken]) {
        let table = Table("ID", "SITE", "USES", "STATE", "MADE BY")
        show(tokens, table) { table, token in
            table.add(
                token.id.description, token.siteId.description, "\(token.uses) of \(token.maxUses)",
                token.state(at: .now()), token.createdBy?.description ?? "the installation")
        }
    }
}

extension EnrollmentToken {
    /// What it is good for, as tables say it.
    fileprivate func state(at now: Instant) -> String {
        if let revokedAt { return "revoked \(revokedAt)" }
        if expiresAt <= now { return "expired \(expiresAt)" }
        return uses < maxUses ? "until \(expiresAt)" : "used up"
    }
}
