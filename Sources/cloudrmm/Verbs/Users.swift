import ArgumentParser
import Client
import Domain
import Wire

/// `cloudrmm users …`
struct Users: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "People who sign in.",
        subcommands: [
            List.self, Show.self, Create.self, Invite.self, Edit.self, Disable.self, Enable.self,
            ResetPassword.self,
        ],
        defaultSubcommand: List.self)

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List people.")
        @OptionGroup var list: ListOptions
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                connection.show(try await list.items { try await api.users($0) })
            }
        }
    }

    struct Show: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Show a person.")
        @Argument(help: "Whose id.") var id: UserID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { connection.show([try await $0.user(id)]) }
        }
    }

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Make a person.")
        @Argument(help: "The address that the person signs in with.") var email: String
        @Option(help: "What others see.") var name: String
        @OptionGroup var home: LevelOptions
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                connection.show([
                    try await api.createUser(NewUser(email: email, name: name, home: home.place))
                ])
            }
        }
    }

    struct Invite: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make the link by which a person sets a first password, and print it, once.",
            discussion: "The person runs 'cloudrmm accept' with it.")
        @Argument(help: "Whose id.") var id: UserID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { connection.show(try await $0.invite(id)) }
        }
    }

    struct ResetPassword: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "reset-password",
            abstract: "Make the link by which a person sets a new password, and print it, once.")
        @Argument(help: "Whose id.") var id: UserID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { connection.show(try await $0.resetPassword(of: id)) }
        }
    }

    struct Edit: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Rename a person.")
        @Argument(help: "Whose id.") var id: UserID
        @Option(help: "What others see from now on.") var name: String
        @Option(help: "Only if it still is of this version.") var ifVersion: Int?
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                connection.show([
                    try await api.edit(id, NewUserChanges(name: name), version: ifVersion)
                ])
            }
        }
    }

    struct Disable: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Let a person in no more; what the person's keys did ends too.")
        @Argument(help: "Whose id.") var id: UserID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                connection.show([try await api.edit(id, NewUserChanges(disabled: true))])
            }
        }
    }

    struct Enable: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Let a person in again.")
        @Argument(help: "Whose id.") var id: UserID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                connection.show([try await api.edit(id, NewUserChanges(disabled: false))])
            }
        }
    }
}

/// `cloudrmm roles …`
struct RoleVerbs: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "roles", abstract: "Roles, and who has which where.",
        subcommands: [
            List.self, Create.self, Edit.self, Delete.self, Bind.self, Bindings.self, Unbind.self,
        ], defaultSubcommand: List.self)

    struct List: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List roles.")
        @OptionGroup var list: ListOptions
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                connection.show(try await list.items { try await api.roles($0) })
            }
        }
    }

    struct Create: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Make a role from permissions that you have.")
        @Argument(help: "Its name.") var name: String
        @Option(help: "What it holds, resource:verb; may be repeated.") var permission: [String]
        @OptionGroup var home: LevelOptions
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                connection.show([
                    try await api.createRole(
                        NewRole(name: name, permissions: permission, home: home.place))
                ])
            }
        }
    }

    struct Edit: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Edit a role: who is bound to it has what it says.")
        @Argument(help: "Its id.") var id: RoleID
        @Option(help: "Its new name.") var name: String?
        @Option(help: "All that it holds from now on; may be repeated.") var permission: [String] = []
        @Option(help: "Only if it still is of this version.") var ifVersion: Int?
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                let changes = NewRoleChanges(name: name, permissions: permission.isEmpty ? nil : permission)
                connection.show([try await api.edit(id, changes, version: ifVersion)])
            }
        }
    }

    struct Delete: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Take a role away that nobody is bound to.")
        @Argument(help: "Its id.") var id: RoleID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { try await $0.remove(id) }
        }
    }

    struct Bind: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Give a person a role on a level.",
            discussion: "Without --partner, --organization or --site it is given on the platform.")
        @Argument(help: "Whose id.") var user: UserID
        @Argument(help: "A role that is built in, by its name, or the id of one that was made.")
        var role: String
        @OptionGroup var level: LevelOptions
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                let made = RoleID(role)
                connection.show([
                    try await api.bind(
                        NewBinding(
                            userId: user, role: made == nil ? role : nil, roleId: made, place: level.place))
                ])
            }
        }
    }

    struct Bindings: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "List who has which role where.")
        @Option(help: "Only this person's.") var user: UserID?
        @OptionGroup var list: ListOptions
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                connection.show(try await list.items { try await api.bindings(user: user, $0) })
            }
        }
    }

    struct Unbind: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Take a role from a person.")
        @Argument(help: "The id of the binding.") var id: BindingID
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { try await $0.unbind(id) }
        }
    }
}

extension ConnectionOptions {
    fileprivate func show(_ link: SignInLink) {
        switch output {
        case .json: Terminal.print(json: link)
        case .table: Terminal.print(link.token)
        }
    }

    fileprivate func show(_ users: [User]) {
        show(users, Table("ID", "EMAIL", "NAME", "HOME", "STATE", "VERSION")) { table, user in
            table.add(
                user.id.description, user.email, user.name, user.home.shown, user.state.name,
                "\(user.version)")
        }
    }

    fileprivate func show(_ roles: [Wire.Role]) {
        show(roles, Table("ID", "NAME", "HOME", "VERSION", "PERMISSIONS")) { table, role in
            table.add(
                role.id?.description ?? "built in", role.name, role.builtin ? "–" : role.home.shown,
                "\(role.version)", role.permissions.joined(separator: ","))
        }
    }

    fileprivate func show(_ bindings: [Binding]) {
        show(bindings, Table("ID", "USER", "ROLE", "WHERE", "ENDS UNLESS USED")) { table, binding in
            table.add(
                binding.id.description, binding.userId.description,
                binding.role ?? binding.roleId?.description ?? "–", binding.place.shown,
                binding.expiresAt.description)
        }
    }
}
