import Foundation
import Process
import Testing

/// `Scripts/test` gives the suites servers of their own, which end with it.
@Suite(.timeLimit(.minutes(2)))
struct TestScriptTests {
    /// A compiler that builds nothing and, for tests, asks the servers what the suites would.
    private static let swift = #"""
        case "$1$2" in
            --version) echo "Swift version 6.3.1" ;;
            build*) ;;
            testlist) echo 'Some.Suite/test()'; echo 'Other.Fault/test()' ;;
            test*)
                psql "$CLOUDRMM_TEST_DATABASE_URL" --no-psqlrc --tuples-only --no-align \
                    --command "SHOW max_connections; SHOW fsync; SHOW is_superuser" | xargs
                redis-cli -s "${CLOUDRMM_TEST_REDIS_URL#unix://}" CONFIG GET save | xargs
                echo "$CLOUDRMM_TEST_BINARIES $CLOUDRMM_TEST_REPOSITORY"
                echo "$@"
                if [ -e wait ]; then echo waiting; sleep 60; fi
                exit 3 ;;
        esac
        """#

    @Test("The suites find empty servers, and their failure is the script's")
    func servers() async throws {
        try await Checkout.with(hasPrograms: false) { checkout in
            var script = try start("Some.Suite", in: checkout)
            #expect(await script.end() == .exited(3), "\(script.text)")
            let lines = script.text.split(separator: "\n").suffix(4)
            #expect(
                lines == [
                    "2500 off on", "save", "\(checkout.programs) \(checkout.root)",
                    "test --skip-build --disable-xctest --filter Some.Suite",
                ], "\(script.text)")
            #expect(try checkout.leftProcesses() == [])
            #expect(try checkout.leftFiles() == [])
        }
    }

    @Test("Ctrl-C stops the servers")
    func interrupted() async throws {
        try await Checkout.with(hasPrograms: false) { checkout in
            try Data().write(to: URL(filePath: "\(checkout.root)/wait"))
            var script = try start("faults", in: checkout)
            #expect(await script.read(until: "waiting"), "\(script.text)")
            #expect(try checkout.leftProcesses().contains { $0.contains("redis-server") })
            try script.interrupt()
            #expect(await script.end() == .exited(130), "\(script.text)")
            #expect(try checkout.leftProcesses() == [])
            #expect(try checkout.leftFiles() == [])
        }
    }

    @Test("A name that no test has is refused")
    func noTest() async throws {
        try await Checkout.with(hasPrograms: false) { checkout in
            var script = try start("Nothing", in: checkout)
            #expect(await script.end() == .exited(1))
            #expect(script.text.contains("no test has a name that matches 'Nothing'"), "\(script.text)")
            #expect(try checkout.leftFiles() == [])
        }
    }

    private func start(_ filter: String, in checkout: Checkout) throws -> Command {
        try Command(
            ["Scripts/test", filter], in: checkout.root,
            path: checkout.tools(replacing: ["swift": Self.swift]),
            variables: [("TMPDIR", checkout.temporary)])
    }
}
