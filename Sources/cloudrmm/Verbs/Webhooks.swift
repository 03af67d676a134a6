import ArgumentParser
import Client
import Domain
import Wire

/// `cloudrmm webhooks …`
struct WebhookVerbs: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "webhooks", abstract: "Who is told of what happens, and how that went.",
        subcommands: [
            List.self, Show.self, Create.self, Edit.self, Delete.self, Rotate.self, Test.self, Log.self,
            Redeliver.self, Enable.self,
        ], defaultSubcommand: List.self)

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List webhooks.")
        @OptionGroup var list: ListOptions
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                connection.show(try await list.items { try await api.webhooks($0) })
            }
        }
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Show a webhook, but for its secret.")
        @Argument(help: "Its id.") var id: WebhookID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { connection.show([try await $0.webhook(id)]) }
        }
    }

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make a webhook and print its secret, once.",
            discussion: "Without --partner or --organization it is the platform's and hears of everything.")
        @Argument(help: "Where it is told: https://…") var url: String
        @Option(help: "What it is told of, such as job.ended; may be repeated.")
        var event: [WebhookEventType]
        @Option(help: "What others see.") var description = ""
        @OptionGroup var home: LevelOptions
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                connection.show(
                    try await api.createWebhook(
                        NewWebhook(url: url, events: event, description: description, home: home.place)))
            }
        }
    }

    struct Edit: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Edit a webhook, or have it told nothing for the time being.")
        @Argument(help: "Its id.") var id: WebhookID
        @Option(help: "Where it is told from now on.") var url: String?
        @Option(help: "All that it is told of from now on; may be repeated.")
        var event: [WebhookEventType] = []
        @Option(help: "What others see.") var description: String?
        @Flag(help: "Tell it nothing until it is enabled.") var disable = false
        @Option(help: "Only if it still is of this version.") var ifVersion: Int?
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                let changes = NewWebhookChanges(
                    url: url, events: event.isEmpty ? nil : event, description: description,
                    disabled: disable ? true : nil)
                connection.show([try await api.edit(id, changes, version: ifVersion)])
            }
        }
    }

    struct Delete: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Take a webhook away, with its log.")
        @Argument(help: "Its id.") var id: WebhookID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { try await $0.remove(id) }
        }
    }

    struct Rotate: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Give a webhook another secret and print it, once.",
            discussion: "The one before signs too for a while.")
        @Argument(help: "Its id.") var id: WebhookID
        @Option(help: "Seconds for which the secret before signs too.") var overlap = 86_400
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                connection.show(try await api.rotate(id, NewRotation(overlapSeconds: overlap)))
            }
        }
    }

    struct Test: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Send a webhook an event webhook.test.")
        @Argument(help: "Its id.") var id: WebhookID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { connection.show([try await $0.test(id)]) }
        }
    }

    struct Log: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "deliveries", abstract: "List what a webhook was told of, newest first.")
        @Argument(help: "Its id.") var id: WebhookID
        @OptionGroup var list: ListOptions
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                connection.show(try await list.items { try await api.deliveries(of: id, $0) })
            }
        }
    }

    struct Redeliver: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Tell a webhook once more of an event, as often as at first.")
        @Argument(help: "The delivery's id.") var id: WebhookDeliveryID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { connection.show([try await $0.redeliver(id)]) }
        }
    }

    struct Enable: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Have a webhook told again, and forget its failures.")
        @Argument(help: "Its id.") var id: WebhookID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { connection.show([try await $0.enable(id)]) }
        }
    }
}

extension ConnectionOptions {
    fileprivate func show(_ webhooks: [Webhook]) {
        let table = Table("ID", "WHERE", "URL", "EVENTS", "STATE", "FAILURES", "DESCRIPTION", "VERSION")
        show(webhooks, table) { table, webhook in
            let reason = webhook.disabledReason.map { " (\($0))" } ?? ""
            table.add(
                webhook.id.description, webhook.home.shown, webhook.url,
                webhook.events.map(\.rawValue).joined(separator: ","), webhook.state.name + reason,
                "\(webhook.failures)", webhook.description, "\(webhook.version)")
        }
    }

    fileprivate func show(_ made: WebhookSecret) {
        guard output == .table else { return Terminal.print(json: made) }
        show([made.webhook])
        Terminal.print("secret, shown only here: \(made.secret)")
    }

    fileprivate func show(_ deliveries: [WebhookDelivery]) {
        let table = Table("ID", "TYPE", "STATE", "ATTEMPTS", "STATUS", "ERROR", "TOOK", "LAST", "NEXT")
        show(deliveries, table) { table, delivery in
            table.add(
                delivery.id.description, delivery.type, delivery.state.name, "\(delivery.attempts)",
                delivery.statusCode.map(String.init) ?? "–", delivery.error ?? "",
                delivery.latencyMilliseconds.map { "\($0) ms" } ?? "–",
                delivery.attemptedAt?.description ?? "–", delivery.nextAttemptAt?.description ?? "–")
        }
    }
}

extension WebhookEventType: ExpressibleByArgument {}
