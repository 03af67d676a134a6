import Client
import Domain
import Process
import Testing
import Wire

extension EndToEndTests {
    /// Job keys are rotated and retired under agents that are connected, and under one that is not.
    @Suite(.serialized, SeparateProcesses()) struct KeyRotationTests {
        private let installation: Installation

        init() throws { installation = try #require(Installation.current) }

        private func keys(_ words: String...) async throws -> ToolResult {
            try await tool(
                try Binaries.path("cloudrmm"), ["keys"] + words + ["--keys-dir", installation.keys],
                environment: installation.environment)
        }

        private func restartAPI() async throws {
            _ = try await installation.stop(.api)
            try await installation.start(.api)
        }

        @Test("a directory without keys, and files that are somebody's, are named and left alone")
        func mistakes() async throws {
            let program = try Binaries.path("cloudrmm")
            let (empty, root) = (
                "\(installation.scratch.path)/no-keys", "\(installation.scratch.path)/a-root"
            )
            for verb in ["show", "rotate", "export"] {
                let said = try await tool(program, ["keys", verb, "--keys-dir", empty])
                #expect(said.exit == .exited(1) && said.errors.contains("there are no keys"), "\(said)")
            }
            #expect(!fileExists(empty), "nothing is made by looking")
            try DurableFile.write([1, 2], to: root)
            let taken = try await tool(
                program, ["keys", "init", "--keys-dir", empty, "--root-key", root])
            #expect(taken.exit == .exited(1) && taken.errors.contains("is there already"), "\(taken)")
            #expect(try readFile(root, max: 9) == [1, 2])
            let failed = try await tool(
                program,
                [
                    "keys", "init", "--keys-dir", empty, "--root-signer", "echo no >&2; exit 9",
                    "--root-public-key", String(repeating: "3d", count: 32),
                ])
            #expect(failed.errors.contains("ended with exit code 9: no"), "\(failed)")
            try removeFile(root)
            // It goes on with another root key: no set was signed by the first.
            _ = try await tool(
                program, ["keys", "init", "--keys-dir", empty, "--root-key", root]
            ).required()
            let again = try await tool(
                program, ["keys", "init", "--keys-dir", empty, "--root-key", root])
            #expect(again.errors.contains("holds the keys of an installation already"), "\(again)")
        }

        @Test("no job is refused for its key: agents have each key set before what it names signs")
        func rotation() async throws {
            let fleet = try await installation.fleet("rotation")
            let (here, away) = (try await fleet.onlineAgent("here"), try await fleet.onlineAgent("away"))
            _ = try await away.stop()
            func run(_ agent: TestAgent) async throws -> Run {
                try await fleet.outcome(try await fleet.submit(Script(.sh, "echo ran"), on: [agent.device]))
            }
            #expect(try await run(here).state == .succeeded)
            let token = try await fleet.token()

            let root = "\(installation.scratch.path)/root-key"
            let shown = try await keys("export", "--root-key", root).required()
            #expect(shown.contains(#""keySetVersion":1"#) && !fileExists("\(installation.keys)/root.seed"))
            let refused = try await keys("rotate")
            #expect(refused.exit != .exited(0) && refused.errors.contains("--root-key"), "\(refused)")
            let rotated = try await keys("rotate", "--root-key", root).required()
            #expect(rotated.hasPrefix("key set 2: ") && rotated.contains("still holds"), "\(rotated)")
            let early = try await keys("retire", "--root-key", root)
            #expect(early.exit != .exited(0) && early.errors.contains("is not published"), "\(early)")
            try await restartAPI()

            // Signed at once by a key that the agent was not told of in its hello.
            #expect(try await run(here).state == .succeeded)
            let directory = try installation.scratch.directory("by-old-token")
            _ = try await fleet.enroll(token: token, into: directory).required()
            let waiting = try await fleet.submit(Script(.sh, "echo late"), on: [away.device])
            // Under the key that signs now: no reason to wait with the one before.
            let retired = try await keys("retire", "--root-key", root).required()
            #expect(retired.contains("assignments signed anew: 2; key set 3: "), "\(retired)")
            try await restartAPI()
            try await away.start()
            #expect(try await fleet.outcome(waiting).state == .succeeded)

            let old = try await fleet.submit(
                Script(.sh, "echo old"), on: [try await fleet.agent("never").device])
            _ = try await fleet.token()
            _ = try await keys("rotate", "--root-key", root).required()
            try await restartAPI()
            for agent in [here, away] { #expect(try await run(agent).state == .succeeded) }
            let kept = try await keys("retire", "--root-key", root)
            #expect(kept.exit != .exited(0), "\(kept)")
            #expect(kept.errors.contains("open jobs 1, enrolment tokens 1"), "\(kept)")
            _ = try await fleet.api.cancel(old)
            #expect(
                try await keys("retire", "--root-key", root, "--force").required().contains("key set 5: "))
            let show = try await keys("show").required()
            #expect(show.contains("key set 5: ") && show.contains("kept elsewhere"), "\(show)")
            for agent in [here, away] { _ = try await agent.stop() }
        }
    }
}
