import ArgumentParser
import Client
import Domain
import Foundation
import Wire

/// `cloudrmm secrets …`
struct SecretVerbs: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "secrets", abstract: "Values that scripts are given, by name; none is ever shown.",
        subcommands: [List.self, Show.self, Set.self, Rotate.self, Delete.self],
        defaultSubcommand: List.self)

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List secrets, but for their values.")
        @OptionGroup var list: ListOptions
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                connection.show(try await list.items { try await api.secrets($0) })
            }
        }
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Show a secret, but for its value.")
        @Argument(help: "Its id.") var id: SecretID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { connection.show([try await $0.secret(id)]) }
        }
    }

    struct Set: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make a secret.",
            discussion: """
                The value is asked for, or read from standard input; an argument could be seen by others. \
                Without --partner, --organization or --site it is the platform's.
                """)
        @Argument(help: "Its name: lower-case letters, digits and underscores.") var name: String
        @Option(help: "What others see.") var description = ""
        @OptionGroup var home: LevelOptions
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                guard let name = SecretName(name) else {
                    throw Failure(
                        .usage,
                        "\(name) is no name of a secret: a lower-case letter, then lower-case letters, "
                            + "digits and underscores, \(Limits.secretNameBytes.upperBound) at the most")
                }
                let new = NewSecret(
                    name: name, value: try Self.value(), description: description, home: home.place)
                connection.show([try await api.createSecret(new)])
            }
        }

        /// The value from a terminal that does not show it, or all of standard input but for a last line end.
        static func value() throws -> SecretValue {
            guard isatty(STDIN_FILENO) != 1 else {
                let value = try Prompt.secret("value: ")
                guard try Prompt.secret("once more: ") == value else {
                    throw Failure(.usage, "the two values are not the same")
                }
                return SecretValue(value)
            }
            let limit = Limits.secretBytes.upperBound
            // One byte more than fits, and a line end: what is longer is refused with the right words.
            let data = try FileHandle.standardInput.read(upToCount: limit + 3) ?? Data()
            guard var text = String(validating: data, as: UTF8.self) else {
                throw Failure(.usage, "the value is not UTF-8 text; encode it, for example as base64")
            }
            if text.hasSuffix("\r\n") || text.hasSuffix("\n") { text.removeLast() }
            guard Limits.secretBytes.contains(text.utf8.count) else {
                throw Failure(
                    .usage,
                    "the value has \(text.utf8.count > limit ? "more than \(limit)" : "\(text.utf8.count)") "
                        + "bytes; allowed are \(Limits.secretBytes.lowerBound) to \(limit)")
            }
            return SecretValue(text)
        }
    }

    struct Rotate: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Give a secret another value, which is asked for or read from standard input.",
            discussion: "Jobs submitted before are still given the one before, until the next rotation.")
        @Argument(help: "Its id.") var id: SecretID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                connection.show([try await api.rotate(id, NewSecretValue(value: try Set.value()))])
            }
        }
    }

    struct Delete: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Take a secret away; jobs that name it and have not been started fail.")
        @Argument(help: "Its id.") var id: SecretID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { try await $0.remove(id) }
        }
    }
}

extension ConnectionOptions {
    fileprivate func show(_ secrets: [Secret]) {
        let table = Table("ID", "NAME", "WHERE", "VALUE", "SINCE", "DESCRIPTION")
        show(secrets, table) { table, secret in
            table.add(
                secret.id.description, secret.name.text, secret.home.shown, "\(secret.secretVersion)",
                secret.updatedAt.description, secret.description)
        }
    }
}
