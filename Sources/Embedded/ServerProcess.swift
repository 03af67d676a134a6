import Glibc
import Process

/// A started server: waiting until it answers, and stopping it.
struct ServerProcess: Sendable {
    let name: String
    let child: Child
    let log: String

    /// Starts the server with the lock as its input, so that the lock is held until the last of its processes
    /// ends.
    static func start(_ name: String, options: ChildOptions, log: String, lock: FileLock) throws
        -> ServerProcess
    {
        var options = options
        options.stdin = .descriptor(lock.heldDescriptor)
        options.stdout = .file(log)
        options.stderr = .file(log)
        options.limits.coreBytesMax = 0
        let child = try Child.spawn(options)
        lock.release()
        return ServerProcess(name: name, child: child, log: log)
    }

    /// Asks again and again until the reply is the wanted one; fails when the server ends or takes too long.
    func waitUntilReady(
        socket: String, request: [UInt8], replyBytes: Int, isReady: @escaping @Sendable ([UInt8]) -> Bool
    ) async throws {
        let deadline = ContinuousClock.now.advanced(by: .seconds(120))
        while true {
            if fileExists(socket) {
                let reply = try await onOwnThread("crmm-probe") {
                    // Not listening or not answering yet is no failure; the deadline is.
                    try? LocalSocket.exchange(
                        socket, request: request, replyBytes: replyBytes, timeoutMilliseconds: 1000)
                }
                if let reply, isReady(reply) { return }
            }
            if let exit = child.exit { throw failure("ended at once (\(exit))") }
            if ContinuousClock.now >= deadline {
                await stop(SIGKILL)
                throw failure("does not answer")
            }
            do {
                try await Task.sleep(for: .milliseconds(4))
            } catch {
                await stop(SIGKILL)
                throw error
            }
        }
    }

    /// Sends the signal for a clean stop and waits; after eight seconds QUIT, after another one KILL.
    func stop(_ signal: Int32) async {
        send(signal)
        let impatience = Task {
            try await Task.sleep(for: .seconds(8))
            send(SIGQUIT)
            try await Task.sleep(for: .seconds(1))
            killGroup()
        }
        _ = await child.wait()
        impatience.cancel()
    }

    /// An error that ends with the log's last lines.
    func failure(_ what: String) -> EmbeddedError {
        // Without a readable log there are no last words.
        let content = (try? readFile(log, max: 64 * 1024 * 1024)) ?? []
        let lines = String(decoding: content.suffix(4096), as: UTF8.self).split(separator: "\n").suffix(5)
        return EmbeddedError(.start, "\(name) \(what); it said: \(lines.joined(separator: " | "))")
    }

    private func send(_ signal: Int32) {
        // Fails only for a process that is not ours.
        _ = try? child.signal(signal)
    }

    private func killGroup() {
        // As above.
        _ = try? child.signalGroup(SIGKILL)
    }
}
