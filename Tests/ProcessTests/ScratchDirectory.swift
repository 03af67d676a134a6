import Glibc
import Process

/// A directory of its own for one test, removed with its owner.
final class ScratchDirectory: Sendable {
    let path: String

    init() throws {
        path = "/tmp/crmm-process-\(getpid())-\(try randomBytes(6).map { String($0, radix: 16) }.joined())"
        try Directory.make(path)
    }

    deinit {
        // A scratch directory left behind harms nobody.
        try? Directory.removeTree(path)
    }
}

/// Everything that comes from a descriptor until its end.
func readToEnd(_ descriptor: Int32) -> [UInt8] {
    var content: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 65536)
    while true {
        let count = unsafe read(descriptor, &buffer, buffer.count)
        if count <= 0 { return content }
        content += buffer[..<count]
    }
}

func text(_ bytes: [UInt8]) -> String { String(decoding: bytes, as: UTF8.self) }

/// Options for a line of shell with an output pipe.
func shell(_ script: String, environment: [(String, String)] = [("PATH", "/usr/bin:/bin")]) -> ChildOptions {
    ChildOptions(executable: "/bin/sh", arguments: ["-c", script], environment: environment, stderr: .null)
}
