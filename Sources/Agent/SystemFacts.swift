import Domain
import Glibc
import NIOCore
import Process
import Wire

/// What the machine says about itself, read anew at each call; what cannot be read is left out.
struct SystemFacts: Sendable {
    /// The agent's own version.
    static let agentVersion = "0.2.0"
    /// The platform's word in hello and enrolment.
    static let platform = "linux"

    /// The kernel's host name.
    static var hostname: String {
        let name = line("/proc/sys/kernel/hostname") ?? ""
        return name.isEmpty ? "localhost" : String(name.prefix(255))
    }

    /// The machine id: a hint for operators that never merges or refuses.
    static var machineID: String? {
        guard let id = line("/etc/machine-id"), (1...128).contains(id.utf8.count) else { return nil }
        return id
    }

    /// The processor architecture that this program was built for.
    static var architecture: String {
        #if arch(x86_64)
            "x86_64"
        #elseif arch(arm64)
            "aarch64"
        #else
            "unknown"
        #endif
    }

    /// The facts as one JSON object: the output of kind `sysinfo`.
    static func json() -> [UInt8] {
        let system = assignments("/etc/os-release", separator: "=")
        let memory = assignments("/proc/meminfo", separator: ":")
        let processor = assignments("/proc/cpuinfo", separator: ":")
        let load = line("/proc/loadavg")?.split(separator: " ").prefix(3).compactMap { Double($0) } ?? []
        func bytes(_ name: String) -> Int? {
            memory[name].flatMap { Int($0.prefix { $0 != " " }) }.map { $0 * 1_024 }
        }
        var writer = JSONWriter()
        writer.object { writer in
            writer.field("agentVersion", agentVersion)
            writer.field("hostname", hostname)
            writer.field("platform", platform)
            writer.field("architecture", architecture)
            writer.field("operatingSystem", system["PRETTY_NAME"])
            writer.field("kernel", line("/proc/sys/kernel/osrelease"))
            writer.field("machineId", machineID)
            writer.field("uptimeSeconds", line("/proc/uptime").flatMap { Double($0.prefix { $0 != " " }) })
            writer.object("processor") { writer in
                writer.field("model", processor["model name"])
                writer.field("count", System.coreCount)
                writer.field("load", load)
            }
            writer.object("memory") { writer in
                writer.field("totalBytes", bytes("MemTotal"))
                writer.field("availableBytes", bytes("MemAvailable"))
                writer.field("swapTotalBytes", bytes("SwapTotal"))
                writer.field("swapFreeBytes", bytes("SwapFree"))
            }
            writer.field("addresses", addresses())
        }
        return writer.bytes + [UInt8(ascii: "\n")]
    }

    /// Interface names with their addresses, loopback left out.
    private static func addresses() -> [String: [String]] {
        // Without the list the other facts still stand.
        guard let devices = try? System.enumerateDevices() else { return [:] }
        var found: [String: [String]] = [:]
        for device in devices where device.name != "lo" {
            if let address = device.address?.ipAddress { found[device.name, default: []].append(address) }
        }
        return found
    }

    private static func line(_ path: String) -> String? { lines(path).first }

    private static func lines(_ path: String) -> [String] {
        // Facts that this user may not read are facts that are left out.
        guard let bytes = try? readFile(path, max: 1 << 20) else { return [] }
        return bytes.split(separator: UInt8(ascii: "\n")).map { String(decoding: $0, as: UTF8.self) }
    }

    /// `name<separator>value` lines; the first of a name holds; blanks and quotes around are left out.
    private static func assignments(_ path: String, separator: Character) -> [String: String] {
        var values: [String: String] = [:]
        for line in lines(path) {
            guard let place = line.firstIndex(of: separator) else { continue }
            let name = trimmed(line[..<place])
            if values[name] == nil { values[name] = trimmed(line[line.index(after: place)...]) }
        }
        return values
    }

    private static func trimmed(_ text: Substring) -> String {
        let outside: (Character) -> Bool = { $0.isWhitespace || $0 == "\"" }
        return String(String(text.drop(while: outside).reversed()).drop(while: outside).reversed())
    }

    /// Name and home of the user that this process runs as, from `/etc/passwd`.
    static func account() -> (name: String, home: String) {
        let id = String(getuid())
        for line in lines("/etc/passwd") {
            let fields = line.split(separator: ":", omittingEmptySubsequences: false)
            if fields.count >= 6, fields[2] == id { return (String(fields[0]), String(fields[5])) }
        }
        return (id, "/")
    }
}
