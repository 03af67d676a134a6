import CProcess
import Glibc

/// One question to a server on a unix socket; blocks at most for the time given at each step.
package enum LocalSocket {
    /// Connects, sends the request and returns the first `replyBytes` of the reply, fewer if the server
    /// closes.
    package static func exchange(
        _ path: String, request: [UInt8], replyBytes: Int, timeoutMilliseconds: Int32
    ) throws(ProcessError) -> [UInt8] {
        let descriptor = unsafe crmm_connect_unix(path, timeoutMilliseconds)
        if descriptor < 0 { throw ProcessError(.file, errno: -descriptor, "cannot connect to \(path)") }
        defer { close(descriptor) }
        guard unsafe send(descriptor, request, request.count, Int32(MSG_NOSIGNAL)) == request.count else {
            throw ProcessError(.file, errno: errno, "cannot write to \(path)")
        }
        var reply: [UInt8] = []
        var buffer = [UInt8](repeating: 0, count: replyBytes)
        while reply.count < replyBytes {
            let count = unsafe recv(descriptor, &buffer, replyBytes - reply.count, 0)
            if count < 0 { throw ProcessError(.file, errno: errno, "cannot read from \(path)") }
            if count == 0 { break }
            reply += buffer[..<count]
        }
        return reply
    }
}

/// A variable of this process's own environment, nil if it is not set.
package func environmentVariable(_ name: String) -> String? {
    unsafe getenv(name).map { unsafe String(cString: $0) }
}
