import CProcess
import Glibc

/// A process that cannot be mistaken for a later one with the same number.
package struct ProcessIdentity: Sendable, Hashable {
    /// The process id.
    package let pid: Int32
    /// When it started, in clock ticks since boot.
    package let startTicks: UInt64

    /// The process with this number now, nil if there is none.
    package init?(pid: Int32) {
        guard let entry = ProcessEntry(pid: pid) else { return nil }
        self = entry.identity
    }

    /// An identity that was written down.
    package init(pid: Int32, startTicks: UInt64) {
        self.pid = pid
        self.startTicks = startTicks
    }

    /// Whether the process still runs; one that ended but was not collected does not.
    package var isRunning: Bool {
        guard let entry = ProcessEntry(pid: pid) else { return false }
        return entry.identity == self && !entry.hasEnded
    }

    /// The name of the program that has this number, at most 15 bytes; nil if the process is gone.
    package var commandName: String? {
        // A process that has gone in between is no error.
        guard let name = try? readFile("/proc/\(pid)/comm", max: 64) else { return nil }
        return String(decoding: name.prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self)
    }

    /// Sends the signal to this process and never to a successor of its number; false if it has ended or
    /// belongs to somebody whom this process may not signal.
    @discardableResult
    package func signal(_ number: Int32) -> Bool {
        let descriptor = crmm_pidfd_open(pid)
        if descriptor < 0 { return false }
        defer { close(descriptor) }
        // The descriptor is of whoever has the number now, and cannot change any more once it is known to be
        // the one.
        return ProcessEntry(pid: pid)?.identity == self && crmm_pidfd_signal(descriptor, number) == 0
    }
}

/// One line of the kernel's process table: what /proc/PID/stat says (proc(5)).
struct ProcessEntry {
    let identity: ProcessIdentity
    let state: UInt8
    let parent: Int32
    let group: Int32
    let session: Int32

    var pid: Int32 { identity.pid }
    var hasEnded: Bool { state == UInt8(ascii: "Z") || state == UInt8(ascii: "X") }

    init?(pid: Int32) {
        // A process that has gone in between is no error.
        guard let content = try? readFile("/proc/\(pid)/stat", max: 4096) else { return nil }
        self.init(pid: pid, stat: content)
    }

    /// The command's name stands in parentheses and may hold any byte, so fields count from the last one.
    init?(pid: Int32, stat: [UInt8]) {
        guard let end = stat.lastIndex(of: UInt8(ascii: ")")) else { return nil }
        let fields = stat[(end + 1)...].split(whereSeparator: {
            $0 == UInt8(ascii: " ") || $0 == UInt8(ascii: "\n")
        })
        guard fields.count > 19, let state = fields[0].first,
            let parent = Int32(String(decoding: fields[1], as: UTF8.self)),
            let group = Int32(String(decoding: fields[2], as: UTF8.self)),
            let session = Int32(String(decoding: fields[3], as: UTF8.self)),
            let startTicks = UInt64(String(decoding: fields[19], as: UTF8.self))
        else { return nil }
        identity = ProcessIdentity(pid: pid, startTicks: startTicks)
        (self.state, self.parent, self.group, self.session) = (state, parent, group, session)
    }

    /// Every process there is, in order of pid.
    static func all() -> [ProcessEntry] {
        // Without /proc nothing is found, and the kill of the leader's group is all there is.
        let names = (try? listDirectory("/proc")) ?? []
        return names.compactMap { Int32($0) }.sorted().compactMap { ProcessEntry(pid: $0) }
    }

    /// Whether an entry (`NAME=value` and a NUL) of the environment the process was started with begins like
    /// this.
    func environmentHas(prefix: [UInt8]) -> Bool {
        // Other users' environments cannot be read, unless by root.
        guard let environment = try? readFile("/proc/\(pid)/environ", max: 8 * 1024 * 1024) else {
            return false
        }
        var entry = environment[...]
        while !entry.isEmpty {
            if entry.starts(with: prefix) { return true }
            guard let end = entry.firstIndex(of: 0) else { return false }
            entry = entry[(end + 1)...]
        }
        return false
    }
}
