// A note `<job>-<attempt>.leader` lies beside the private directory of a run while its processes may live,
// out of the script's way: one line of the boot's id, the leader's pid and its start in clock ticks since
// that boot. It is written right after the fork and not synchronised, since no process outlives what would
// lose it.

import Process

/// Who leads the processes of a run, as noted for whoever comes after a killed agent.
struct RunLeader: Sendable, Equatable {
    private static let suffix = ".leader"

    let identity: ProcessIdentity

    init(_ identity: ProcessIdentity) { self.identity = identity }

    /// Notes it for the run of this directory.
    func write(beside directory: String) throws(ProcessError) {
        let line = "\(try Self.bootID()) \(identity.pid) \(identity.startTicks)\n"
        try makeFile(Array(line.utf8), at: directory + Self.suffix)
    }

    /// The leader noted for the run of this directory in this boot; nil if there is none that could live.
    init?(beside directory: String) {
        // Without a note the marker has to do.
        guard let note = try? readFile(directory + Self.suffix, max: 256), let boot = try? Self.bootID()
        else { return nil }
        let words = String(decoding: note, as: UTF8.self).split { $0 == " " || $0 == "\n" }
        guard words.count == 3, words[0] == boot, let pid = Int32(words[1]), pid > 1,
            let ticks = UInt64(words[2])
        else { return nil }
        identity = ProcessIdentity(pid: pid, startTicks: ticks)
    }

    static func remove(beside directory: String) throws(ProcessError) {
        try removeFile(directory + suffix)
    }

    /// The names of the runs that have a note in this directory of runs.
    static func noted(in runs: String) throws(ProcessError) -> [String] {
        try listDirectory(runs).filter { $0.hasSuffix(suffix) }.map { String($0.dropLast(suffix.count)) }
    }

    private static func bootID() throws(ProcessError) -> String {
        let bytes = try readFile("/proc/sys/kernel/random/boot_id", max: 64)
        return String(decoding: bytes.prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self)
    }
}
