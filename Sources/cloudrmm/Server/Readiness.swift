import Domain
import Process
import Synchronization
import Wire

/// What `ready.json` says: where everything listens and the key of the administrator.
struct Ready: WireObject, Equatable {
    var webURL: String
    var apiURL: String
    var gatewayURL: String
    var operationsURL: String
    var databaseURL: String
    var redisURL: String
    var apiKey: String
    var caCertificate: String

    init(
        webURL: String, apiURL: String, gatewayURL: String, operationsURL: String, databaseURL: String,
        redisURL: String,
        apiKey: String, caCertificate: String
    ) {
        self.webURL = webURL
        self.apiURL = apiURL
        self.gatewayURL = gatewayURL
        self.operationsURL = operationsURL
        self.databaseURL = databaseURL
        self.redisURL = redisURL
        self.apiKey = apiKey
        self.caCertificate = caCertificate
    }

    init(from reader: inout FieldReader) throws(FieldError) {
        webURL = try reader.field("webURL")
        apiURL = try reader.field("apiURL")
        gatewayURL = try reader.field("gatewayURL")
        operationsURL = try reader.field("operationsURL")
        databaseURL = try reader.field("databaseURL")
        redisURL = try reader.field("redisURL")
        apiKey = try reader.field("apiKey")
        caCertificate = try reader.field("caCertificate")
    }

    func fields(to writer: inout JSONWriter) {
        writer.field("webURL", webURL)
        writer.field("apiURL", apiURL)
        writer.field("gatewayURL", gatewayURL)
        writer.field("operationsURL", operationsURL)
        writer.field("databaseURL", databaseURL)
        writer.field("redisURL", redisURL)
        writer.field("apiKey", apiKey)
        writer.field("caCertificate", caCertificate)
    }
}

/// The ports that a process has bound; whoever asks waits until they are.
final class BoundPorts: Sendable {
    private struct State {
        var ports: [String: Int] = [:]
        var waiting: [String: [CheckedContinuation<Int, Never>]] = [:]
    }

    private let state = Mutex(State())

    func bound(_ name: String, _ port: Int) {
        let waiting = state.withLock { state in
            state.ports[name] = port
            return state.waiting.removeValue(forKey: name) ?? []
        }
        for continuation in waiting { continuation.resume(returning: port) }
    }

    subscript(name: String) -> Int? { state.withLock { $0.ports[name] } }

    func port(_ name: String) async -> Int {
        await withCheckedContinuation { continuation in
            let port = state.withLock { state -> Int? in
                if let port = state.ports[name] { return port }
                state.waiting[name, default: []].append(continuation)
                return nil
            }
            if let port { continuation.resume(returning: port) }
        }
    }
}

/// The ports of an installation that were free when it was first asked to take any; used again while they are
/// free.
struct RememberedPorts {
    let path: String

    func port(_ name: String, asked: Int) -> Int {
        guard asked == 0 else { return asked }
        return ports[name].flatMap { isFree($0) ? $0 : nil } ?? 0
    }

    func remember(_ bound: [String: Int]) throws {
        try DurableFile.write(ports.merging(bound) { _, new in new }.json, to: path)
    }

    private var ports: [String: Int] {
        // A missing or unreadable file, or another content, only means that nothing is remembered.
        guard let bytes = try? readFile(path, max: 4_096), let json = try? JSON.parse(bytes) else {
            return [:]
        }
        return (try? [String: Int].read(json, .none, field: "")) ?? [:]  // as above
    }

    private func isFree(_ port: Int) -> Bool { LocalPort.isFree(port) }
}
