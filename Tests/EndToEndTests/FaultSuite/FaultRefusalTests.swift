import Faults
import Process
import Testing

extension EndToEndTests {
    /// Nobody gets a fault who has not asked for it twice.
    @Suite struct FaultRefusalTests {
        private static let fault = (Fault.variable, "api.afterCommit:kill:1")

        @Test(
            "a fault without its permission, or one that cannot be read, stops every program at once",
            arguments: ["cloudrmm", "cloudrmm-agent"])
        func refused(_ program: String) async throws {
            let path = try Binaries.path(program)
            let arguments = program == "cloudrmm" ? ["jobs", "--help"] : ["version"]
            for variables in [
                [Self.fault], [Self.fault, (Fault.permission, "no")],
                [(Fault.variable, "nowhere:kill:1"), (Fault.permission, "yes")],
            ] {
                let result = try await tool(path, arguments, environment: variables)
                #expect(result.exit != .exited(0) && result.output.isEmpty, "\(result)")
                #expect(result.errors.contains(Fault.variable), "\(result)")
            }
            let allowed = [Self.fault, (Fault.permission, "yes")]
            #expect(try await tool(path, arguments, environment: allowed).exit == .exited(0))
        }

        @Test("a file of settings cannot say a fault", arguments: [Fault.variable, Fault.permission])
        func notAFile(_ name: String) async throws {
            let scratch = try Scratch()
            let file = "\(scratch.path)/settings"
            try DurableFile.write(Array("\(name) = api.afterCommit:kill:1\n".utf8), to: file)
            let result = try await tool(
                try Binaries.path("cloudrmm"), ["serve", "--roles", "api", "--config", file])
            #expect(
                result.exit == .exited(2) && result.errors.contains("sets a variable that there is not"),
                "\(result)")
        }
    }
}
