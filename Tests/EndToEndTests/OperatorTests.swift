import Client
import Domain
import Glibc
import Process
import Synchronization
import Testing
import Wire

extension EndToEndTests.HealthyTests {
    /// What operators do at the command line: hold back, weigh, watch, examine.
    @Suite(.serialized) struct OperatorTests {
        private let up: UpInstance

        init() throws { up = try #require(UpInstance.current) }

        private func cloudrmm(_ arguments: String...) async throws -> ToolResult {
            try await tool(try Binaries.path("cloudrmm"), arguments + ["--data-dir", up.data])
        }

        @Test("a paused organization's job waits; drained it takes no more; resumed what waited runs")
        func hold() async throws {
            let fleet = try await up.fleet("operators")
            let agent = try await fleet.onlineAgent("operators")
            let organization = fleet.organization.description
            let paused = try await cloudrmm(
                "queues", "pause", "--organization", organization, "--reason", "a reason"
            ).required()
            #expect(paused.contains("pause") && paused.contains("a reason"), "\(paused)")
            let job = try await fleet.submit(Script(.sh, "echo ran"), on: [agent.device])
            _ = try await cloudrmm("queues", "drain", "--organization", organization).required()
            let refused = try await cloudrmm(
                "jobs", "run", "--kind", "ping", "--device", agent.device.description)
            #expect(refused.exit == .exited(2) && refused.errors.contains("is draining"), "\(refused.errors)")
            let shown = try await cloudrmm("queues", "show", organization).required()
            #expect(shown.contains("pause") && shown.contains("drain"), "\(shown)")
            _ = try await cloudrmm("queues", "resume", "--organization", organization).required()
            #expect(try await fleet.outcome(job).state == .succeeded)
            let again = try await cloudrmm("queues", "resume", "--organization", organization)
            #expect(again.exit == .exited(2) && again.errors.contains("is not paused and not draining"))
            #expect(try await cloudrmm("queues", "pause").exit == .exited(2), "nothing is not everything")
            let weighed = try await cloudrmm("queues", "weight", organization, "2.5").required()
            #expect(weighed.contains("weight 2.5"), "\(weighed)")
            let bad = try await cloudrmm("queues", "weight", organization, "0")
            #expect(bad.exit == .exited(2) && bad.errors.contains("0.001 to 1000"), "\(bad.errors)")
            #expect(try await cloudrmm("queues", "cap", organization, "7").required().contains("cap 7"))
            #expect(try await cloudrmm("queues", "cap", organization, "none").required().contains("cap none"))
            let bucket = try await cloudrmm(
                "queues", "interactive", organization, "--per-minute", "30", "--burst", "5"
            ).required()
            #expect(bucket.contains("30 a minute, 5 at once"), "\(bucket)")
            #expect(try await cloudrmm("queues", "show", organization).required().contains("30 a minute"))
            let outside = try await cloudrmm("queues", "interactive", organization, "--burst", "-1")
            #expect(outside.exit == .exited(2), "\(outside.errors)")
            let faster = try await cloudrmm("queues", "interactive", organization, "--per-minute", "600001")
            #expect(faster.exit == .exited(2) && faster.errors.contains("0.6 to 600000"), "\(faster.errors)")
            _ = try await cloudrmm("queues", "interactive", organization, "--by-default").required()
            let standard = try await cloudrmm("queues", "interactive", organization).required()
            #expect(standard.contains("600 a minute, 100 at once"), "\(standard)")
            let quota = try await cloudrmm("queues", "quota", organization).required()
            #expect(quota.contains("open runs") && quota.contains("by default"), "\(quota)")
            _ = try await cloudrmm("queues", "quota", organization, "--open-runs", "7").required()
            // What is not named stays.
            _ = try await cloudrmm("queues", "quota", organization, "--open-bytes", "5000000").required()
            let limited = try await cloudrmm("queues", "show", organization).required()
            #expect(limited.contains("of 7 runs") && limited.contains("of 5000000 bytes open"), "\(limited)")
            for (option, value, says) in [
                ("--open-runs", "0", "1"), ("--open-runs", "many", "a number and default"),
                ("--open-bytes", "1", "4194304"),
            ] {
                let refused = try await cloudrmm("queues", "quota", organization, option, value)
                #expect(refused.exit == .exited(2) && refused.errors.contains(says), "\(refused.errors)")
            }
            let none = try await cloudrmm(
                "queues", "quota", organization, "--open-runs", "default", "--open-bytes", "default"
            ).required()
            #expect(!none.contains("5000000") && none.contains("by default"), "\(none)")
            _ = try await cloudrmm("queues", "weight", organization, "1").required()
            _ = try await agent.stop()
        }

        @Test("the roles of the installation are listed, and doctor finds it well")
        func examined() async throws {
            try await eventually("all roles have said that they run") {
                let workers = try await cloudrmm("workers", "list").required()
                return ["api", "gateway", "worker"].allSatisfy { workers.contains(" \($0) ") }
            }
            let healthy = try await cloudrmm("doctor")
            #expect(healthy.exit == .exited(0), "\(healthy.output)")
            for word in [
                "row-level security holds", "noeviction", "is private", "has all migrations",
                "agents: a process",
            ] {
                #expect(healthy.output.contains(word), "\(word): \(healthy.output)")
            }
            let empty = try up.scratch.directory("empty")
            let nothing = try await tool(
                try Binaries.path("cloudrmm"), ["doctor", "--data-dir", empty])
            #expect(nothing.exit == .exited(1) && nothing.output.contains("fail  settings"), "\(nothing)")
            let away = try await tool(
                try Binaries.path("cloudrmm"), ["doctor", "--data-dir", empty],
                environment: [
                    ("DATABASE_URL", "postgresql://crmm_api:secret@127.0.0.1:\(try freePort())/x"),
                    ("REDIS_URL", "redis://127.0.0.1:\(try freePort())"),
                ])
            #expect(away.exit == .exited(1))
            #expect(away.output.contains("fail  postgresql") && away.output.contains("fail  redis"))
            #expect(!away.output.contains("secret"), "no secret is printed")
        }

        @Test("top runs in a terminal: it draws, obeys keys and sizes, and leaves the terminal as it was")
        func top() async throws {
            _ = try await up.fleet("top \u{1B}[31mname")
            for ending in [Ending.key, .interrupt, .signal(SIGTERM), .signal(SIGHUP)] {
                let terminal = try PseudoTerminal(rows: 24, columns: 80)
                let screen = Screen()
                try TerminalScreen.readKeys(from: terminal.descriptor) { screen.append($0) }
                let child = try Child.spawn(
                    ChildOptions(
                        executable: try Binaries.path("cloudrmm"),
                        arguments: ["queues", "top", "--interval", "0.2", "--data-dir", up.data],
                        environment: [("PATH", "/usr/bin:/bin"), ("HOME", "/tmp"), ("LANG", "C.UTF-8")],
                        workingDirectory: "/", stdin: .descriptor(terminal.programDescriptor),
                        stdout: .file(terminal.path), stderr: .null, isolation: .session,
                        parentDeathSignal: SIGKILL))
                func type(_ keys: String) throws {
                    try writeAll(Array(keys.utf8), to: terminal.descriptor, path: "the terminal")
                }
                try await eventually("it draws") { screen.text.contains("DEPTH OLDEST WAITING") }
                #expect(screen.text.hasPrefix("\u{1B}[?1049h"), "on a screen of its own")
                #expect(!terminal.isCooked)
                try terminal.resize(rows: 30, columns: 110)
                try child.signal(SIGWINCH)
                try await eventually("names come, and whole where there is room") {
                    screen.text.contains("top \u{FFFD}[31mname")
                }
                #expect(!screen.text.contains("\u{1B}[31m"), "a name steers nothing")
                try type("s")
                try await eventually("it sorts") { screen.text.contains("sort: oldest") }
                try type("/top ")
                try await eventually("it filters") { screen.text.contains("filter: top _") }
                try type("\r")
                try terminal.resize(rows: 10, columns: 40)
                screen.clear()
                try child.signal(SIGWINCH)
                try await eventually("it fits the new size") {
                    let frames = screen.text.components(of: "\u{1B}[H").dropLast()
                    return frames.last.map { $0.components(of: "\r\n").count == 10 } ?? false
                }
                switch ending {
                case .key: try type("q")
                case .interrupt: try type("\u{3}")
                case .signal(let number): try child.signal(number)
                }
                #expect(await child.wait() == .exited(0), "\(ending)")
                #expect(terminal.isCooked, "\(ending)")
                try await eventually("the other screen is back") {
                    screen.text.hasSuffix("\u{1B}[0m\u{1B}[?25h\u{1B}[?1049l")
                }
            }
            let piped = try await cloudrmm("queues", "top")
            #expect(piped.exit == .exited(2) && piped.errors.contains("needs a terminal"))
        }

        private enum Ending {
            case key, interrupt
            case signal(Int32)
        }

        /// What was drawn so far.
        private final class Screen: Sendable {
            private let bytes = Mutex<[UInt8]>([])

            var text: String { String(decoding: bytes.withLock { $0 }, as: UTF8.self) }

            func append(_ more: [UInt8]) { bytes.withLock { $0 += more } }

            func clear() { bytes.withLock { $0 = [] } }
        }
    }
}

extension StringProtocol where SubSequence == Substring {
    /// The parts between a separator.
    fileprivate func components(of separator: String) -> [Substring] {
        var (parts, rest) = ([Substring](), self[startIndex...])
        while let range = rest.firstRange(of: separator) {
            parts.append(rest[..<range.lowerBound])
            rest = rest[range.upperBound...]
        }
        return parts + [rest]
    }
}
