import Foundation
import Process
import Testing

/// What is missing gets a sentence that says what to do.
@Suite(.timeLimit(.minutes(2)))
struct RequirementTests {
    @Test(
        "Without Swift the scripts say where to get it",
        arguments: ["Scripts/demo", "Scripts/test", ".ci/run"])
    func noSwift(script: String) async throws {
        try await Checkout.with(hasPrograms: false) { checkout in
            let (exit, text) = try await run(script, in: checkout, path: checkout.tools())
            #expect(exit == .exited(1))
            let place = "https://www.swift.org/install/linux"
            let sentence =
                "Swift is missing: install Swift 6.3 or later from \(place) and put it on the PATH\n"
            #expect(text == "\(script == "Scripts/demo" ? "demo" : "test"): \(sentence)")
        }
    }

    @Test(
        "Swift before 6.3 is refused by its version, 6.3 and later are not",
        arguments: [("5.10", true), ("6.2", true), ("6.3", false), ("6.10", false), ("7.0", false)])
    func oldSwift(version: String, isRefused: Bool) async throws {
        try await Checkout.with(hasPrograms: false) { checkout in
            let swift = #"[ "$1" = --version ] && echo "Swift version \#(version)" && exit; exit 1"#
            let path = try checkout.tools(replacing: ["swift": swift])
            let (exit, text) = try await run("Scripts/demo", in: checkout, path: path)
            #expect(exit == .exited(1))
            #expect(
                text.contains("Swift \(version) is too old: install Swift 6.3 or later") == isRefused,
                "\(text)")
            #expect(text.contains("cloudrmm could not be built") != isRefused, "\(text)")
        }
    }

    @Test("An ordinary user without sudo is told what root has to run")
    func noSudo() async throws {
        try await Checkout.with(hasPrograms: false) { checkout in
            let tools = ["swift": Self.swiftThatBuildsNothing, "id": "echo 1000", "dpkg-query": "exit 1"]
            let path = try checkout.tools(replacing: tools, without: ["sudo"])
            let (exit, text) = try await run("Scripts/demo", in: checkout, path: path)
            #expect(exit == .exited(1))
            let command = "apt-get install -y --no-install-recommends redis-server postgresql python3"
            #expect(text.hasPrefix("demo: packages are missing; as root, run: \(command)"), "\(text)")
        }
    }

    @Test("An ordinary user installs by sudo, and nothing else is done with it")
    func sudo() async throws {
        try await Checkout.with(hasPrograms: false) { checkout in
            let log = "\(checkout.temporary)/sudo"
            let installed = #"for last; do :; done; [ "$last" != libpq-dev ] && echo installed"#
            let tools = [
                "swift": Self.swiftThatBuildsNothing, "id": "echo 1000", "dpkg-query": installed,
                "sudo": "echo \"$@\" >>\(log)",
            ]
            let (exit, text) = try await run(
                "Scripts/demo", in: checkout, path: checkout.tools(replacing: tools))
            #expect(exit == .exited(1))
            #expect(text.contains("==> Installing libpq-dev\n"), "\(text)")
            #expect(text.contains("cloudrmm could not be built"), "\(text)")
            let done = String(decoding: try readFile(log, max: 4_096), as: UTF8.self)
            let install = "apt-get install -y -q --no-install-recommends libpq-dev"
            #expect(done == "apt-get update -q\nenv DEBIAN_FRONTEND=noninteractive \(install)\n")
        }
    }

    @Test("Without apt-get the scripts name the packages")
    func noApt() async throws {
        try await Checkout.with(hasPrograms: false) { checkout in
            let tools = ["swift": Self.swiftThatBuildsNothing, "dpkg-query": "exit 1"]
            let path = try checkout.tools(replacing: tools, without: ["apt-get"])
            let (exit, text) = try await run("Scripts/test", in: checkout, path: path)
            #expect(exit == .exited(1))
            #expect(
                text.hasPrefix(
                    "test: there is no apt-get; install what these packages of Debian hold: redis"),
                "\(text)")
        }
    }

    @Test("Programs that are not where CLOUDRMM_BINARIES says are refused")
    func noPrograms() async throws {
        try await Checkout.with(hasPrograms: false) { checkout in
            let (exit, text) = try await Command.run(
                ["Scripts/demo"], in: checkout.root, variables: checkout.variables)
            #expect(exit == .exited(1))
            #expect(text.contains("\(checkout.programs), which lacks cloudrmm\n"), "\(text)")
        }
    }

    @Test("An unknown option is answered by the usage", arguments: ["Scripts/demo", "Scripts/test"])
    func usage(script: String) async throws {
        try await Checkout.with(hasPrograms: false) { checkout in
            let (exit, text) = try await Command.run([script, "--fast"], in: checkout.root)
            #expect(exit == .exited(1))
            #expect(text.contains(": usage: \(script) ["), "\(text)")
        }
    }

    /// A compiler of the right version that fails at everything else.
    private static let swiftThatBuildsNothing =
        #"[ "$1" = --version ] && echo "Swift version 6.3.1" && exit; exit 1"#

    private func run(_ script: String, in checkout: Checkout, path: String) async throws -> (
        exit: ChildExit, text: String
    ) {
        try await Command.run(
            [script], in: checkout.root, path: path, variables: [("TMPDIR", checkout.temporary)])
    }
}
