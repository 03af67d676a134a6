import Foundation
import Process
import Testing

/// The README's commands do what it says, with the programs that were built for the tests.
@Suite(.timeLimit(.minutes(5)))
struct ReadmeTests {
    @Test("The README begins with exactly the two commands")
    func begins() async throws {
        try await Checkout.with(hasPrograms: false) { checkout in
            let commands = try checkout.commands(below: "Begin")
            #expect(commands == ["Scripts/demo\nScripts/test"])
        }
    }

    @Test("The demo shows a run's outcome, its output and the machine, and leaves nothing, twice in a row")
    func demo() async throws {
        try await Checkout.with { checkout in try await runTwice(in: checkout, as: nil) }
    }

    @Test("The demo works as an ordinary user too", .enabled(if: getuid() == 0, "only root can make a user"))
    func demoOfUser() async throws {
        try await Checkout.with { checkout in
            try await runTwice(in: checkout, as: checkout.makeUser())
        }
    }

    @Test(
        "The demo works where only root can enter, with an agent that runs as root then",
        .enabled(if: getuid() == 0, "only root has such a place"))
    func demoOfRoot() async throws {
        try await Checkout.with { checkout in
            try FileStatus.setMode(checkout.root, 0o700)
            let (exit, text) = try await Command.run(
                ["Scripts/demo"], in: checkout.root, variables: checkout.variables)
            #expect(exit == .exited(0), "\(text)")
            #expect(text.hasPrefix("==> The agent runs as root, since the user nobody cannot run "))
            #expect(text.hasSuffix("==> Everything is stopped.\n"))
            #expect(try checkout.leftProcesses() == [])
        }
    }

    private func runTwice(in checkout: Checkout, as user: String?) async throws {
        let command = try #require(try checkout.commands(below: "Begin").first?.split(separator: "\n").first)
        for _ in 1...2 {
            let (exit, text) = try await Command.run(
                ["bash", "-c", String(command)], in: checkout.root, variables: checkout.variables, user: user)
            #expect(exit == .exited(0), "\(text)")
            #expect(text.contains("completed: 1 succeeded"))
            #expect(text.contains(#""usableCores""#), "the output of Jobs/system-summary.py")
            #expect(text.contains(#""agentVersion":"#), "sysinfo")
            #expect(text.hasSuffix("==> Everything is stopped.\n"))
            #expect(try checkout.leftProcesses() == [])
            #expect(try checkout.leftFiles() == [])
        }
    }

    @Test("Ctrl-C in the middle of the demo stops everything")
    func interrupted() async throws {
        try await Checkout.with { checkout in
            // It stays in its middle until it is interrupted, however late that is, and is interrupted when
            // the shell has read what it does there: a trap in the middle of that is a syntax error to bash
            // 5.2.
            let held = "\(checkout.root)/held"
            try FileManager.default.createDirectory(atPath: held, withIntermediateDirectories: true)
            try Data("#!/bin/sh\necho 'curl is held' >&2\nexec tail -f /dev/null\n".utf8)
                .write(to: URL(filePath: "\(held)/curl"))
            try FileStatus.setMode("\(held)/curl", 0o755)
            let path = "\(held):\(environment["PATH"] ?? "/usr/bin:/bin")"
            var demo = try Command(
                ["Scripts/demo"], in: checkout.root, path: path, variables: checkout.variables)
            #expect(await demo.read(until: "curl is held"), "\(demo.text)")
            try demo.interrupt()
            #expect(await demo.end() == .exited(130), "\(demo.text)")
            #expect(demo.text.hasSuffix("Everything is stopped.\n"))
            #expect(try checkout.leftProcesses() == [])
            #expect(try checkout.leftFiles() == [])
        }
    }

    @Test("A demo that cannot start says so, with the reason, and fails")
    func brokenDemo() async throws {
        try await Checkout.with(hasPrograms: false) { checkout in
            for name in ["cloudrmm", "cloudrmm-agent"] {
                try Data("#!/bin/sh\necho 'no room' >&2\nexit 1\n".utf8)
                    .write(to: URL(filePath: "\(checkout.programs)/\(name)"))
                try FileStatus.setMode("\(checkout.programs)/\(name)", 0o755)
            }
            let (exit, text) = try await Command.run(
                ["Scripts/demo"], in: checkout.root, variables: checkout.variables)
            #expect(exit == .exited(1))
            #expect(text.hasSuffix("no room\ndemo: failed while starting 'cloudrmm up --demo'\n"), "\(text)")
            #expect(try checkout.leftFiles() == [])
        }
    }

    @Test("A script of one's own runs by command line and over HTTP, and is still known after a restart")
    func ownScript() async throws {
        try await Checkout.with { checkout in
            let own = try checkout.commands(below: "Run a script of your own")
            try #require(own.count == 3)
            var demo = try Command(["bash", "-c", own[0]], in: checkout.root, variables: checkout.variables)
            #expect(await demo.read(until: "==> Running until Ctrl-C"), "\(demo.text)")

            let host = try await run("hostname", in: checkout)
            let line = try await run(own[1], in: checkout)
            #expect(line.contains("\nhello from \(host.dropLast()), world\n"), "\(line)")
            let http = try await run(own[2], in: checkout)
            #expect(http.contains(#""state":"completed","counts":{"succeeded":1}"#), "\(http)")
            #expect(http.contains(#""stdout": "hello over HTTP\n""#), "\(http)")

            let (exit, text) = try await Command.run(
                ["Scripts/demo", "--stay"], in: checkout.root, variables: checkout.variables)
            #expect(exit == .exited(1))
            #expect(text.contains("another instance is using \(checkout.root)/.cloudrmm"), "\(text)")
            #expect(text.hasSuffix("demo: failed while starting 'cloudrmm up --demo'\n"), "\(text)")

            try demo.interrupt()
            #expect(await demo.end() == .exited(0), "\(demo.text)")
            #expect(demo.text.hasSuffix("==> Everything is stopped.\n"))
            #expect(try checkout.leftProcesses() == [])

            let again = try #require(try checkout.commands(below: "Stop and start again").first)
            let ports = ["web", "api", "gateway", "operations"].map { " --\($0)-port 0" }.joined()
            var up = try Command(["bash", "-c", "exec \(again)\(ports)"], in: checkout.root)
            #expect(await up.read(until: "ready web="), "\(up.text)")
            let jobs = try await run(".build/release/cloudrmm jobs list", in: checkout)
            #expect(
                jobs.split(separator: "\n").count == 1 + 5, "three jobs of the demo, two of ours: \(jobs)")
            // What is signed in with stays in the checkout.
            let two = try checkout.commands(below: "Two customers, and a technician who sees one")
            try #require(two.count == 3)
            let address = own[2].split(separator: "\n").prefix(4).joined(separator: "\n")
            let seen = try await run(
                (["export XDG_CONFIG_HOME=\"$PWD/.cloudrmm\"", address] + two).joined(separator: "\n"),
                in: checkout)
            let lines = seen.split(separator: "\n")
            #expect(lines.last == #""Acme""#, "\(seen)")
            #expect(lines.filter { $0.contains("Globex") }.count == 1, "where it was made: \(seen)")
            #expect(seen.contains("devices:read") && !seen.contains("users:write"), "\(seen)")
            let verified = try await run(
                ".build/release/cloudrmm audit verify --data-dir .cloudrmm", in: checkout)
            #expect(verified.contains(" logs hold"), "\(verified)")
            try up.interrupt()
            #expect(await up.end() == .exited(0), "\(up.text)")
            #expect(try checkout.leftProcesses() == [])
        }
    }

    private func run(_ commands: String, in checkout: Checkout) async throws -> String {
        let (exit, text) = try await Command.run(
            ["bash", "-euo", "pipefail", "-c", commands], in: checkout.root)
        #expect(exit == .exited(0), "\(text)")
        return text
    }
}
