import ArgumentParser
import Client
import Domain
import Wire

extension Partners {
    /// `cloudrmm partners guard …`
    struct GuardVerbs: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "guard", abstract: "How far one act of a partner may reach without more ado.",
            subcommands: [Show.self, Set.self], defaultSubcommand: Show.self)

        /// A number of devices, or `none`.
        enum Threshold: ExpressibleByArgument {
            case devices(Int)
            case none

            init?(argument: String) {
                if argument == "none" {
                    self = .none
                } else if let number = Int(argument) {
                    self = .devices(number)
                } else {
                    return nil
                }
            }

            var change: FieldChange<Int> {
                switch self {
                case .devices(let number): .set(number)
                case .none: .clear
                }
            }
        }

        struct Show: AsyncParsableCommand {
            static let configuration = CommandConfiguration(abstract: "Show a partner's guard.")
            @Argument(help: "The partner's id.") var id: PartnerID
            @OptionGroup var connection: ConnectionOptions

            func run() async throws {
                try await operate(connection) { connection.show(try await $0.partnerGuard(id)) }
            }
        }

        struct Set: AsyncParsableCommand {
            static let configuration = CommandConfiguration(
                abstract: "Set a partner's guard; what is not named stays.",
                discussion: """
                    A person who loosens it is asked for the code of the second factor. API keys cannot show \
                    one, so a key that has guards:write loosens without.
                    """)
            @Argument(help: "The partner's id.") var id: PartnerID
            @Option(help: "Above so many devices their exact number is confirmed.") var confirmAbove: Int?
            @Option(help: "Above so many devices a second person approves; none: nobody has to.")
            var approveAbove: Threshold?
            @Option(
                name: .customLong("step-up"),
                help: "A permission that takes a fresh second factor; repeat it for all that do.")
            var stepUp: [String] = []
            @Flag(help: "No permission takes a fresh second factor.") var noStepUp = false
            @Option(help: "For how many seconds a second factor is fresh.") var stepUpSeconds: Int?
            @Option(help: "Only if it still is of this version.") var ifVersion: Int?
            @OptionGroup var connection: ConnectionOptions

            func validate() throws {
                guard stepUp.isEmpty || !noStepUp else {
                    throw ValidationError("--step-up and --no-step-up exclude each other")
                }
            }

            func run() async throws {
                try await operate(connection) { api in
                    let changes = NewGuardChanges(
                        confirmAbove: confirmAbove, approveAbove: approveAbove?.change ?? .keep,
                        stepUpPermissions: stepUp.isEmpty && !noStepUp ? nil : stepUp,
                        stepUpSeconds: stepUpSeconds)
                    connection.show(try await api.edit(id, changes, version: ifVersion))
                }
            }
        }
    }
}

extension ConnectionOptions {
    fileprivate func show(_ one: PartnerGuard) {
        let table = Table("CONFIRM ABOVE", "APPROVE ABOVE", "STEP-UP FOR", "FRESH FOR", "VERSION", "EDITED")
        show([one], table) { table, one in
            table.add(
                "\(one.confirmAbove)", one.approveAbove.map(String.init) ?? "none",
                one.stepUpPermissions.isEmpty ? "–" : one.stepUpPermissions.joined(separator: " "),
                "\(one.stepUpSeconds) s", "\(one.version)", one.updatedAt.description)
        }
    }
}
