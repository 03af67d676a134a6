import Foundation
import Glibc
import Logging
import Synchronization

@testable import Redis

/// The shared test server, and a prefix for this test's keys.
struct TestServer {
    let configuration: RedisConfiguration
    let prefix = "test:\(UInt64.random(in: 0 ... .max)):"

    init() throws {
        guard let url = unsafe getenv("CLOUDRMM_TEST_REDIS_URL") else {
            throw RedisError(
                .configuration, "CLOUDRMM_TEST_REDIS_URL is not set: these tests need a Redis server")
        }
        configuration = try RedisConfiguration(url: unsafe String(cString: url))
    }

    func connection(_ change: (inout RedisConfiguration) -> Void = { _ in }) -> RedisConnection {
        var configuration = configuration
        change(&configuration)
        return RedisConnection(configuration: configuration, logger: .quiet)
    }

    func blocking() -> RedisBlockingConnection {
        RedisBlockingConnection(configuration: configuration, logger: .quiet)
    }

    func key(_ name: String) -> RedisArgument { .string(prefix + name) }
}

extension Logger {
    static let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }
}

func connection(_ configuration: RedisConfiguration) -> RedisConnection {
    RedisConnection(configuration: configuration, logger: .quiet)
}

func blockingConnection(_ configuration: RedisConfiguration) -> RedisBlockingConnection {
    RedisBlockingConnection(configuration: configuration, logger: .quiet)
}

/// A listening socket whose connections a script answers, each on one thread.
final class FakeServer: Sendable {
    let path: String
    private let listener: Int32
    /// Connections accepted so far.
    let accepted = Atomic(0)

    /// `script` gets the descriptor of each connection and its number, from 0; it is closed afterwards.
    init(script: @escaping @Sendable (Int32, Int) -> Void) throws {
        path = "/tmp/cloudrmm-fake-\(getpid())-\(UInt32.random(in: 0 ... .max)).sock"
        listener = socket(AF_UNIX, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        let family = unsafe withUnsafeBytes(of: sa_family_t(AF_UNIX)) { unsafe Array($0) }
        let bytes = family + path.utf8 + [0]
        let bound = unsafe bytes.withUnsafeBytes {
            unsafe bind(listener, $0.baseAddress!.assumingMemoryBound(to: sockaddr.self), socklen_t($0.count))
        }
        guard bound == 0, listen(listener, 16) == 0 else {
            throw RedisError(.connection, "cannot listen at \(path)")
        }
        let box = unsafe Unmanaged.passRetained(Script(server: self, run: script))
        var thread = pthread_t()
        unsafe pthread_create(
            &thread, nil,
            { raw in
                let script = unsafe Unmanaged<Script>.fromOpaque(raw!).takeRetainedValue()
                script.server.serve(script.run)
                return nil
            }, box.toOpaque())
        pthread_detach(thread)
    }

    var configuration: RedisConfiguration {
        get throws { try RedisConfiguration(url: "unix://\(path)") }
    }

    func stop() {
        unsafe unlink(path)
        shutdown(listener, Int32(SHUT_RDWR))
    }

    private func serve(_ run: (Int32, Int) -> Void) {
        while true {
            let descriptor = accept(listener, nil, nil)
            guard descriptor >= 0 else { break }
            run(descriptor, accepted.add(1, ordering: .relaxed).oldValue)
            // A server that another test started meanwhile may have inherited the descriptor.
            shutdown(descriptor, Int32(SHUT_RDWR))
            close(descriptor)
        }
        close(listener)
    }

    private final class Script: Sendable {
        let server: FakeServer
        let run: @Sendable (Int32, Int) -> Void
        init(server: FakeServer, run: @escaping @Sendable (Int32, Int) -> Void) {
            (self.server, self.run) = (server, run)
        }
    }
}

/// Waits for bytes of the client; how many came, 0 at its end.
@discardableResult
func hear(_ descriptor: Int32) -> Int {
    unsafe withUnsafeTemporaryAllocation(byteCount: 65_536, alignment: 1) {
        unsafe recv(descriptor, $0.baseAddress, $0.count, 0)
    }
}

/// Sends bytes to the client; false when it has gone.
@discardableResult
func say(_ descriptor: Int32, _ text: String) -> Bool {
    var text = text
    return text.withUTF8 { unsafe send(descriptor, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL)) } >= 0
}

/// A Redis server of the test's own, at a socket in a temporary directory.
final class PrivateServer {
    let directory: String
    private let process: pid_t

    var path: String { directory + "/redis.sock" }

    init(arguments: [String]) throws {
        var template = Array("/tmp/cloudrmm-redis-XXXXXX".utf8CString)
        guard unsafe template.withUnsafeMutableBufferPointer({ unsafe mkdtemp($0.baseAddress!) }) != nil
        else {
            throw RedisError(.configuration, "cannot make a temporary directory")
        }
        directory = String(decoding: template.dropLast().map(UInt8.init(bitPattern:)), as: UTF8.self)
        let words =
            [
                "redis-server", "--port", "0", "--unixsocket", directory + "/redis.sock", "--dir", directory,
                "--save", "",
                "--daemonize", "no", "--logfile", directory + "/log",
            ] + arguments
        var pointers = unsafe words.map { unsafe strdup($0) } + [nil]
        defer { for index in words.indices { unsafe free(pointers[index]) } }
        var child: pid_t = 0
        guard unsafe posix_spawnp(&child, "redis-server", nil, nil, &pointers, environ) == 0 else {
            throw RedisError(.configuration, "cannot start redis-server")
        }
        process = child
    }

    /// Nothing by itself: a server ends with the last reference, and this is one at the end of a test.
    func stop() {}

    deinit {
        kill(process, SIGKILL)
        waitpid(process, nil, 0)
        try? FileManager.default.removeItem(atPath: directory)  // what is left of a failed test does no harm
    }

    /// A connection to an address that leads to this server, which lives as long as the test holds it.
    func connection(_ url: String) throws -> RedisConnection {
        RedisConnection(configuration: try RedisConfiguration(url: url), logger: .quiet)
    }

    func configuration(user: String) throws -> RedisConfiguration {
        try RedisConfiguration(url: "unix://\(user)@\(path)")
    }
}
