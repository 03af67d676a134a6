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
    var ownerDatabaseURL: String
    var redisURL: String
    var apiKey: String
    var caCertificate: String

    init(
        webURL: String, apiURL: String, gatewayURL: String, operationsURL: String, databaseURL: String,
        ownerDatabaseURL: String, redisURL: String, apiKey: String, caCertificate: String
    ) {
        self.webURL = webURL
        self.apiURL = apiURL
        self.gatewayURL = gatewayURL
        self.operationsURL = operationsURL
        self.databaseURL = databaseURL
        self.ownerDatabaseURL = ownerDatabaseURL
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
        ownerDatabaseURL = try reader.field("ownerDatabaseURL")
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
        writer.field("ownerDatabaseURL", ownerDatabaseURL)
        writer.field("redisURL", redisURL)
        writer.field("apiKey", apiKey)
        writer.field("caCertificate", caCertificate)
    }
}

/// The ports that a process has bound; whoever asks waits until they are, or until it is cancelled.
final class BoundPorts: Sendable {
    private struct State {
        var ports: [String: Int] = [:]
        var waiting: [Int: (name: String, waker: AsyncStream<Void>.Continuation)] = [:]
        var last = 0
    }

    private let state = Mutex(State())

    func bound(_ name: String, _ port: Int) {
        let woken = state.withLock { state in
            state.ports[name] = port
            return state.waiting.values.filter { $0.name == name }.map(\.waker)
        }
        for waker in woken { waker.finish() }
    }

    subscript(name: String) -> Int? { state.withLock { $0.ports[name] } }

    /// - Throws: `CancellationError` if the task is cancelled before the port is bound.
    func port(_ name: String) async throws -> Int {
        let (stream, waker) = AsyncStream<Void>.makeStream()
        let number = state.withLock { state in
            state.last += 1
            state.waiting[state.last] = (name, waker)
            return state.last
        }
        defer { state.withLock { $0.waiting[number] = nil } }
        if self[name] == nil { for await _ in stream {} }
        guard let port = self[name] else { throw CancellationError() }
        return port
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
