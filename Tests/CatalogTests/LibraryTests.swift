import Catalog
import Foundation
import Testing

@Suite("The library")
struct LibraryTests {
    private static let root = URL(filePath: #filePath).deletingLastPathComponent().deletingLastPathComponent()
        .deletingLastPathComponent()

    private static func shipped() throws -> Library {
        try Library.load(
            jobsDirectory: root.appending(path: "Jobs").path,
            policiesDirectory: root.appending(path: "Policies").path)
    }

    @Test("ships definitions and policies that are all valid")
    func loads() throws {
        let library = try Self.shipped()
        #expect(library.definitions.keys.sorted().contains("disk-report"))
        #expect(library.definitions.count >= 3)
        #expect(library.policies["linux-baseline"]?.checks.isEmpty == false)
        #expect(library.definitions.allSatisfy { $0.key == $0.value.name })
    }

    @Test(
        "ships scripts that run without privileges and end as expected",
        arguments: [
            ("disk-report", ["directory": "/etc"]), ("service-health", ["failOnFailedUnits": "false"]),
            ("system-summary", [:]),
        ])
    func runs(name: String, values: [String: String]) throws {
        let definition = try #require(try Self.shipped().definitions[name])
        let result = try run(definition, values)
        #expect(definition.expectedExitCodes.contains(result.code))
        #expect(!result.output.isEmpty)
        if definition.facts == .json {
            let facts = try JSONSerialization.jsonObject(with: result.output) as? [String: Any]
            #expect(facts?.isEmpty == false)
        }
    }

    @Test("has a run of every shipped script")
    func coversAll() throws {
        let scripts = try Self.shipped().definitions.values.filter { $0.kind == .script }.map(\.name)
        #expect(scripts.sorted() == ["disk-report", "service-health", "system-summary"])
    }

    @Test("lists directories whatever their names are")
    func strangeNames() throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "catalog \(UUID().uuidString)")
        let name = "quote\" back\\ tab\t line\n ü"
        try FileManager.default.createDirectory(
            at: folder.appending(path: name), withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }  // a leftover fails no test
        let definition = try #require(try Self.shipped().definitions["disk-report"])
        let result = try run(definition, ["directory": folder.path])
        let facts = try JSONSerialization.jsonObject(with: result.output) as? [String: Any]
        let directories = facts?["largestDirectories"] as? [[String: Any]]
        #expect(directories?.contains { $0["path"] as? String == "\(folder.path)/\(name)" } == true)
    }

    @Test("reports a directory that is not there and a process that does not run by the exit code")
    func failingScripts() throws {
        let library = try Self.shipped()
        let report = try #require(library.definitions["disk-report"])
        #expect(try run(report, ["directory": "/no/such/directory"]).code == 2)
        let health = try #require(library.definitions["service-health"])
        let missing = try run(health, ["wanted": "no-such-thing", "failOnFailedUnits": "false"])
        #expect(missing.code == 1)
    }

    @Test("refuses what is wrong in any file of the folders, and names every file")
    func refuses() throws {
        let folder = FileManager.default.temporaryDirectory.appending(path: "catalog-\(UUID().uuidString)")
        let jobs = folder.appending(path: "jobs")
        try FileManager.default.createDirectory(at: jobs, withIntermediateDirectories: true)
        defer { try? FileManager.default.removeItem(at: folder) }  // a leftover fails no test
        let head = "summary: s\nkind: script\ninterpreter: sh\n"
        try write("name: good\n\(head)bodyFile: good.sh\n", jobs, "good.yaml")
        try write("exit 0\n", jobs, "good.sh")
        try write("name: wrong\nkind: script\n", jobs, "wrong.yaml")
        try write("", jobs, "other.yml")
        try write("exit 0\n", folder, "outside.sh")
        try FileManager.default.createSymbolicLink(
            at: jobs.appending(path: "link.sh"), withDestinationURL: folder.appending(path: "outside.sh"))
        try write("name: link\n\(head)bodyFile: link.sh\n", jobs, "link.yaml")
        try write("name: folder\n\(head)bodyFile: sub\n", jobs, "folder.yaml")
        try FileManager.default.createDirectory(
            at: jobs.appending(path: "sub"), withIntermediateDirectories: true)
        try write("name: absent\n\(head)bodyFile: absent.sh\n", jobs, "absent.yaml")
        try Data([0xFF, 0xFE]).write(to: jobs.appending(path: "bytes.yaml"))

        let error = try #require(throws: CatalogProblems.self) {
            try Library.load(jobsDirectory: jobs.path, policiesDirectory: folder.appending(path: "none").path)
        }
        let text = error.description
        for words in [
            "other.yml:1: ends in .yml; allowed: .yaml", "wrong.yaml:1:1: summary: is missing",
            "link.yaml:5:11: bodyFile: 'link.sh' cannot be read: it leads out of the folder",
            "folder.yaml:5:11: bodyFile: 'sub' cannot be read: it is not a file",
            "absent.yaml:5:11: bodyFile: 'absent.sh' cannot be read: there is no such file",
            "bytes.yaml:1: is not UTF-8", "none:1: cannot be read",
        ] {
            #expect(text.contains(words), "\(words) is not in\n\(text)")
        }
        #expect(!text.contains("good.yaml"))
    }

    private func write(_ text: String, _ folder: URL, _ name: String) throws {
        try text.write(to: folder.appending(path: name), atomically: true, encoding: .utf8)
    }

    private func run(_ definition: Definition, _ values: [String: String]) throws -> (code: Int, output: Data)
    {
        let process = Process()
        let interpreter = try #require(definition.interpreter)
        process.executableURL = URL(filePath: "/usr/bin/env")
        process.arguments = [interpreter.rawValue, "-c", definition.body]
        let environment = try definition.environment(for: values) + [("PATH", "/usr/local/bin:/usr/bin:/bin")]
        process.environment = Dictionary(uniqueKeysWithValues: environment)
        let output = Pipe()
        process.standardOutput = output
        process.standardError = FileHandle.nullDevice
        try process.run()
        let bytes = try output.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        return (Int(process.terminationStatus), bytes)
    }
}
