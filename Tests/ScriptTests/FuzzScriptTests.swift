import Foundation
import Process
import Testing

/// `Scripts/fuzz` tells what the fuzzers found by its end, and keeps it.
@Suite(.timeLimit(.minutes(2)))
struct FuzzScriptTests {
    /// A compiler whose fuzzers read one input, and break if it says so.
    private static let swift = #"""
        if [ "$1" = --version ]; then echo "Swift version 6.3.1" && exit; fi
        scratch=$5
        mkdir -p "$scratch/debug"
        cat >"$scratch/debug/Fuzz" <<'END'
        #!/bin/sh
        [ $# != 0 ] || { printf 'bodies\ncursors\n' && exit; }
        for last; do case $last in -artifact_prefix=*) prefix=${last#*=} ;; esac; done
        echo '#7 DONE cov: 12 ft: 34 corp: 5/6b lim: 4 exec/s: 0 rss: 30Mb'
        echo 'stat::number_of_executed_units: 7'
        echo 'stat::peak_rss_mb: 30'
        ! grep -q broken "$last"/* ||
            { cp "$last"/* "${prefix}crash-1" && echo 'Fatal error: oh' && exit 77; }
        END
        chmod +x "$scratch/debug/Fuzz"
        """#

    @Test("Each parser gets a line, and nothing found is a good end")
    func nothing() async throws {
        try await Self.with(corpus: "{}") { script, checkout in
            #expect(await script.end() == .exited(0), "\(script.text)")
            #expect(
                script.text.contains("bodies             7 inputs, 12 edges, 34 features, 5 kept, 30 MB"),
                "\(script.text)")
            #expect(script.text.contains("cursors"))
            let left = try checkout.leftFiles()
            #expect(left == [])
        }
    }

    @Test("What was found is kept and named, and is a bad end")
    func found() async throws {
        try await Self.with(corpus: "broken") { script, checkout in
            #expect(await script.end() == .exited(1), "\(script.text)")
            let kept = "\(checkout.root)/.build/fuzz/found/cursors-input-crash-1"
            #expect(script.text.contains("the input is \(kept)"), "\(script.text)")
            #expect(script.text.contains("something was found in: cursors"), "\(script.text)")
            let input = try String(contentsOfFile: kept, encoding: .utf8)
            #expect(input == "broken")
            let left = try checkout.leftFiles()
            #expect(left == [])
        }
    }

    @Test("A time that is none, a parser that there is not, and a parser without a corpus are refused")
    func refused() async throws {
        try await Self.with(arguments: ["0"]) { script, _ in
            #expect(await script.end() == .exited(1))
            #expect(script.text.contains("usage: Scripts/fuzz"), "\(script.text)")
        }
        try await Self.with(arguments: ["1", "dreams"]) { script, _ in
            #expect(await script.end() == .exited(1))
            #expect(script.text.contains("there is no parser 'dreams'; there are: bodies cursors"))
        }
        try await Self.with(corpus: nil) { script, _ in
            #expect(await script.end() == .exited(1))
            #expect(script.text.contains("cursors has no corpus"), "\(script.text)")
        }
    }

    /// Runs the script where the bodies' corpus is good, and that of the cursors as given.
    private static func with(
        arguments: [String] = ["1"], corpus: String? = "{}",
        _ body: (inout Command, Checkout) async throws -> Void
    ) async throws {
        try await Checkout.with(hasPrograms: false) { checkout in
            let machine = try await Command.run(["uname", "-m"], in: "/").text.split(separator: "\n")[0]
            var files = [
                "lib/clang/1/libclang_rt.fuzzer_no_main-\(machine).a": "", "Tests/Fuzz/Corpus/bodies/a": "{}",
            ]
            files["Tests/Fuzz/Corpus/cursors/a"] = corpus
            for (name, text) in files {
                let file = URL(filePath: "\(checkout.root)/\(name)")
                try FileManager.default.createDirectory(
                    at: file.deletingLastPathComponent(), withIntermediateDirectories: true)
                try Data(text.utf8).write(to: file)
            }
            var script = try Command(
                ["Scripts/fuzz"] + arguments, in: checkout.root,
                path: checkout.tools(replacing: ["swift": Self.swift]),
                variables: [("TMPDIR", checkout.temporary)])
            try await body(&script, checkout)
        }
    }
}
