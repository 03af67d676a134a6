import Foundation
import Process

/// A repository with built programs, as one has it after the first build, in a place that every user can
/// read; whatever its scripts start has a path in it among its arguments.
final class Checkout {
    let root: String
    private var users: [String] = []

    /// - Parameter hasPrograms: Whether `.build/release` has the programs that the tests are run with.
    init(hasPrograms: Bool = true) throws {
        root = "/tmp/crmm-\(String(UInt64.random(in: 0 ... .max), radix: 36))"
        let files = FileManager.default
        let repository = try directory(named: "CLOUDRMM_TEST_REPOSITORY")
        try Directory.make(root, mode: 0o755)
        for name in ["README.md", "Jobs", "Scripts", ".ci"] {
            try files.copyItem(atPath: "\(repository)/\(name)", toPath: "\(root)/\(name)")
        }
        try files.createDirectory(atPath: programs, withIntermediateDirectories: true)
        if hasPrograms {
            let built = URL(filePath: try directory(named: "CLOUDRMM_TEST_BINARIES"))
                .resolvingSymlinksInPath().path
            for name in ["cloudrmm", "cloudrmm-agent"] {
                try files.copyItem(atPath: "\(built)/\(name)", toPath: "\(programs)/\(name)")
            }
        }
        try Directory.make(temporary, mode: 0o777)
        try FileStatus.setMode(temporary, 0o1777)
    }

    /// Where the release build is.
    var programs: String { "\(root)/.build/release" }

    /// Where the scripts put what they need for a while.
    var temporary: String { "\(root)/tmp" }

    /// What a test gives the scripts so that they use these programs and stay in this directory.
    var variables: [(String, String)] { [("CLOUDRMM_BINARIES", programs), ("TMPDIR", temporary)] }

    /// The commands of the README's shell blocks below a heading, one string a block.
    func commands(below heading: String) throws -> [String] {
        let readme = String(decoding: try readFile("\(root)/README.md", max: 1 << 20), as: UTF8.self)
        guard
            let section = readme.components(separatedBy: "\n## ").first(where: {
                $0.hasPrefix(heading + "\n")
            })
        else { return [] }
        return section.components(separatedBy: "```sh\n").dropFirst().compactMap {
            $0.components(separatedBy: "\n```").first
        }
    }

    /// A directory with every tool of the system but Swift, and with these scripts instead of what they name.
    func tools(replacing scripts: [String: String] = [:], without: Set<String> = []) throws -> String {
        let tools = "\(root)/tools"
        try Directory.make(tools, mode: 0o755)
        for folder in ["/usr/bin", "/bin", "/usr/sbin"] {
            for name in try listDirectory(folder) where !name.hasPrefix("swift") {
                guard scripts[name] == nil, !without.contains(name), !fileExists("\(tools)/\(name)") else {
                    continue
                }
                // A link of the system that leads nowhere is replaced by one that does not either.
                try? FileManager.default.createSymbolicLink(
                    atPath: "\(tools)/\(name)", withDestinationPath: "\(folder)/\(name)")
            }
        }
        for (name, body) in scripts {
            try Data("#!/bin/sh\n\(body)\n".utf8).write(to: URL(filePath: "\(tools)/\(name)"))
            try FileStatus.setMode("\(tools)/\(name)", 0o755)
        }
        return tools
    }

    /// An ordinary user that goes with this checkout.
    func makeUser() async throws -> String {
        let name = String(root.dropFirst("/tmp/".count))
        let made = try await Command.run(["useradd", "--system", "--no-create-home", name], in: "/")
        guard made.exit == .exited(0) else { throw Refused(text: made.text) }
        users.append(name)
        return name
    }

    /// The programs that run with a path of this checkout among their arguments, this test apart.
    func leftProcesses() throws -> [String] {
        try listDirectory("/proc").compactMap { entry in
            guard let pid = Int32(entry), pid != ProcessInfo.processInfo.processIdentifier else { return nil }
            // A process that has just ended has no command line any more.
            guard let bytes = try? readFile("/proc/\(pid)/cmdline", max: 1 << 20) else { return nil }
            let line = String(decoding: bytes.map { $0 == 0 ? 32 : $0 }, as: UTF8.self)
            return line.contains(root) ? line : nil
        }
    }

    /// Names of what the scripts left in their temporary directory.
    func leftFiles() throws -> [String] { try listDirectory(temporary) }

    /// Removes the directory and the users.
    func remove() async throws {
        for user in users { _ = try await Command.run(["userdel", user], in: "/") }
        try Directory.removeTree(root)
    }

    /// A checkout for one test, removed after it.
    static func with(hasPrograms: Bool = true, _ body: (Checkout) async throws -> Void) async throws {
        let checkout = try Checkout(hasPrograms: hasPrograms)
        do {
            try await body(checkout)
        } catch {
            try await checkout.remove()
            throw error
        }
        try await checkout.remove()
    }
}

struct Refused: Error {
    let text: String
}
