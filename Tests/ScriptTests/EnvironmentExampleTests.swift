import Foundation
import Process
import Testing

/// `.env.example` says what there is, about every variable.
struct EnvironmentExampleTests {
    @Test("Every variable that the programs read is documented")
    func isComplete() throws {
        let repository = try directory(named: "CLOUDRMM_TEST_REPOSITORY")
        let sources = "\(repository)/Sources/cloudrmm"
        let call = /(?:environmentVariable|require|given|environment)[(\[](?:[a-zA-Z]+, )?"([A-Z_]+)"/
        let setting = /case [a-zA-Z]+ = "([A-Z_]+)"/
        var read: Set<String> = []
        for file in try FileManager.default.subpathsOfDirectory(atPath: sources)
        where file.hasSuffix(".swift") {
            let text = String(decoding: try readFile("\(sources)/\(file)", max: 1 << 20), as: UTF8.self)
            read.formUnion(text.matches(of: call).map { String($0.1) })
            read.formUnion(text.matches(of: setting).map { String($0.1) })
        }
        #expect(read.isSuperset(of: ["DATABASE_URL", "CLOUDRMM_KEYS_DIR", "API_URL"]))
        let documented = Set(try variables(of: repository).map(\.name))
        // The shell's and the terminal's own.
        #expect(read.subtracting(documented) == ["COLUMNS", "XDG_CONFIG_HOME"])
        #expect(documented.isSuperset(of: ["DATABASE_URL", "REDIS_URL", "API_URL", "AGENT_GATEWAY_URL"]))
        #expect(documented.contains("CLERK_SECRET_KEY"))
    }

    @Test("Each variable is one that a file of settings may have")
    func mayBeFile() throws {
        let repository = try directory(named: "CLOUDRMM_TEST_REPOSITORY")
        let settings = "\(repository)/Sources/cloudrmm/Settings/Setting.swift"
        let text = String(decoding: try readFile(settings, max: 1 << 20), as: UTF8.self)
        let known = Set(text.matches(of: /"([A-Z_]{3,})"/).map { String($0.1) })
        #expect(Set(try variables(of: repository).map(\.name)) == known)
    }

    @Test("Each variable has a type, a default and says whether it is secret")
    func isDocumented() throws {
        for (name, comment) in try variables(of: directory(named: "CLOUDRMM_TEST_REPOSITORY")) {
            #expect(
                ["URL", "Path", "Text", "Number"].contains { comment.hasPrefix($0) }, "\(name)")
            #expect(comment.contains("Default: ") || comment.contains("No default."), "\(name)")
            #expect(comment.contains(". Secret.") || comment.contains("Not secret"), "\(name)")
        }
    }

    /// The variables with the comments above them.
    private func variables(of repository: String) throws -> [(name: String, comment: String)] {
        let text = String(decoding: try readFile("\(repository)/.env.example", max: 1 << 20), as: UTF8.self)
        return text.components(separatedBy: "\n\n").flatMap { paragraph in
            let lines = paragraph.split(separator: "\n")
            let comment = lines.filter { $0.hasPrefix("# ") }.map { $0.dropFirst(2) }.joined(separator: " ")
            return lines.filter { !$0.hasPrefix("#") }.map {
                (String($0.prefix { $0 != "=" }), comment)
            }
        }
    }
}
