import ArgumentParser
import Client
import Domain
import Foundation
import Process
import Wire

/// What is exported as a whole and erased.
protocol ErasedPart {
    associatedtype Subject

    static var noun: String { get }
    static func erasure(of id: ID<Subject>, _ api: APIClient) async throws -> Erasure
    static func erase(_ id: ID<Subject>, name: String, _ api: APIClient) async throws -> Erasure
}

extension Partners: ErasedPart {
    static func erasure(of id: PartnerID, _ api: APIClient) async throws -> Erasure {
        try await api.erasure(of: id)
    }

    static func erase(_ id: PartnerID, name: String, _ api: APIClient) async throws -> Erasure {
        try await api.erase(id, name: name)
    }
}

extension Organizations: ErasedPart {
    static func erasure(of id: OrganizationID, _ api: APIClient) async throws -> Erasure {
        try await api.erasure(of: id)
    }

    static func erase(_ id: OrganizationID, name: String, _ api: APIClient) async throws -> Erasure {
        try await api.erase(id, name: name)
    }
}

extension ConnectionOptions {
    /// Prints what an erasure takes, by table.
    fileprivate func show(_ erasure: Erasure) {
        let table = Table("ROWS", "OF")
        show([erasure], table) { table, erasure in
            for (name, count) in erasure.rows.sorted(by: { $0.key < $1.key }) { table.add("\(count)", name) }
            table.add("\(erasure.rows.values.reduce(0, +))", "all together")
            if erasure.askedAt != nil { table.add("\(erasure.removed)", "which are gone already") }
        }
    }
}

/// `cloudrmm … erasure`
struct ShowErasure<Part: ErasedPart>: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "erasure",
            abstract: "Count what erasing \(Part.noun) takes, or show how far it has gone.")
    }

    @Argument(help: "Its id.") var id: ID<Part.Subject>
    @OptionGroup var connection: ConnectionOptions

    func run() async throws {
        try await operate(connection) { connection.show(try await Part.erasure(of: id, $0)) }
    }
}

/// `cloudrmm … erase`
struct Erase<Part: ErasedPart>: AsyncParsableCommand {
    static var configuration: CommandConfiguration {
        CommandConfiguration(
            commandName: "erase", abstract: "Erase \(Part.noun) for good: nothing brings it back.",
            discussion: """
                It has to be archived, and an organization to be exported as it is. Says what goes, and asks \
                for the name unless --name says it.
                """)
    }

    @Argument(help: "Its id.") var id: ID<Part.Subject>
    @Option(help: "Its name, exactly, instead of being asked for it.") var name: String?
    @OptionGroup var connection: ConnectionOptions

    func run() async throws {
        try await operate(connection) { api in
            var said = name
            if said == nil {
                let erasure = try await Part.erasure(of: id, api)
                let rows = erasure.rows.values.reduce(0, +)
                Terminal.print("This erases \(Part.noun) with \(rows) rows for good.")
                said = try Prompt.line("Its name, to go on: ")
            }
            connection.show(try await Part.erase(id, name: said ?? "", api))
        }
    }
}

extension Sites {
    struct Delete: AsyncParsableCommand {
        static let configuration = CommandConfiguration(abstract: "Delete an archived site without devices.")
        @Argument(help: "Its id.") var id: SiteID
        @Option(help: "Only if it still is of this version.") var ifVersion: Int?
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { try await $0.remove(id, version: ifVersion) }
        }
    }
}

extension Devices {
    struct Delete: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Delete an archived device; what its runs brought stays with their jobs.")
        @Argument(help: "Its id.") var id: DeviceID
        @Option(help: "Only if it still is of this version.") var ifVersion: Int?
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { try await $0.remove(id, version: ifVersion) }
        }
    }
}

extension Organizations {
    struct Export: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Export all of an organization as a signed tar archive, and verify it.",
            discussion: "The file is made new, for its owner alone; what is secret is not in it.")
        @Argument(help: "Its id.") var id: OrganizationID
        @Option(help: "Where to write it.") var file: String
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                let (url, files) = (URL(filePath: file), FileManager.default)
                do {
                    try Data().write(to: url, options: .withoutOverwriting)
                    try files.setAttributes([.posixPermissions: 0o600], ofItemAtPath: file)
                } catch {
                    throw Failure(.usage, "\(file) cannot be made: \(error.localizedDescription)")
                }
                do {
                    let handle = try FileHandle(forWritingTo: url)
                    for try await piece in api.export(id) { try handle.write(contentsOf: Data(piece)) }
                    try handle.close()
                } catch {
                    try? files.removeItem(at: url)  // half an archive is of no use
                    throw error
                }
                try ExportFile(path: file).verify(rootKeyHash: nil)
            }
        }
    }

    struct VerifyExport: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "verify-export",
            abstract: "Verify an export, without the API: each file, and the signature over all of them.")
        @Argument(help: "The archive.") var file: String
        @Option(help: "The SHA-256 of the installation's root key, which 'export' has said.")
        var rootKeyHash: String?

        func run() async throws {
            try await reportingFailures {
                try ExportFile(path: file).verify(rootKeyHash: rootKeyHash?.lowercased())
            }
        }
    }
}
