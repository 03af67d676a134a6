import Glibc
import NIOCore

/// A TLS client over a socket of its own whose calls block, each for at most `timeout`.
///
/// For one thread at a time: it is made, used and closed by its owner and is not Sendable.
package final class TLSStream {
    /// How long a single call may take.
    package var timeout: Duration

    private let session: TLSSession
    private let socket: Int32
    private var input = ByteBuffer()
    private var output = ByteBuffer()
    private var isOpen = true

    /// Connects to the first address of `host` that answers and shakes hands; `serverName` (DNS or IP) is
    /// what the server's certificate must carry. Name resolution has the system's own time limits, everything
    /// after it shares `timeout`.
    package static func connect(
        host: String, port: Int, context: TLSContext, serverName: String? = nil,
        timeout: Duration = .seconds(10)
    ) throws(TrustError) -> TLSStream {
        let deadline = Deadline(after: timeout)
        let socket = try openSocket(host: host, port: port, deadline: deadline)
        return try TLSStream(
            adopting: socket, context: context, serverName: serverName ?? host, timeout: timeout,
            deadline: deadline)
    }

    /// Takes over a connected socket, which is closed with the stream and when the handshake fails.
    package convenience init(
        adopting socket: Int32, context: TLSContext, serverName: String, timeout: Duration = .seconds(10)
    ) throws(TrustError) {
        let deadline = Deadline(after: timeout)
        try self.init(
            adopting: socket, context: context, serverName: serverName, timeout: timeout, deadline: deadline)
    }

    private init(
        adopting socket: Int32, context: TLSContext, serverName: String, timeout: Duration, deadline: Deadline
    ) throws(TrustError) {
        do {
            session = try TLSSession(context: context, serverName: serverName)
        } catch {
            _ = Glibc.close(socket)
            throw error
        }
        self.socket = socket
        self.timeout = timeout
        _ = fcntl(socket, F_SETFL, fcntl(socket, F_GETFL) | O_NONBLOCK)
        try handshake(deadline)
    }

    deinit {
        if isOpen { _ = Glibc.close(socket) }
    }

    /// The socket, to wait on together with other descriptors: readable means that `read` may have something.
    package var descriptor: Int32 { socket }

    /// What both sides agreed on.
    package func handshakeResult() throws(TrustError) -> TLSHandshakeCompleted {
        let agreed = try session.agreement()
        return TLSHandshakeCompleted(
            peerCertificate: agreed.peerCertificate, alpn: agreed.alpn, version: agreed.version,
            resumed: agreed.resumed)
    }

    /// At least one and at most `max` bytes; empty once the server has said close_notify. Throws `truncated`
    /// when it left without, `timeout` when nothing came.
    package func read(max: Int = 64 << 10) throws(TrustError) -> [UInt8] {
        try read(max: max, Deadline(after: timeout))
    }

    /// As `read`, but nil when there is nothing now. Whoever waits for `descriptor` calls this until it gives
    /// nil, and only then waits again: a part of what came may be here already.
    package func readAvailable(max: Int = 64 << 10) throws(TrustError) -> [UInt8]? {
        do {
            return try read(max: max, Deadline(after: .zero))
        } catch {
            if error.code == .timeout { return nil }
            throw error
        }
    }

    private func read(max: Int, _ deadline: Deadline) throws(TrustError) -> [UInt8] {
        precondition(max > 0)
        guard isOpen else { throw TrustError(.io, "the stream is closed") }
        var plaintext = ByteBuffer()
        while true {
            let progress = session.decrypt(into: &plaintext, max: max)
            if plaintext.readableBytes > 0 { return Array(plaintext.readableBytesView) }
            switch progress {
            case .done, .wantsInput:
                try flush(deadline)
                try receive(deadline, atEnd: .truncated)
            case .closed: return []
            case .failed(let error):
                // The alert is a courtesy; the error that is thrown matters more than whether it arrives.
                try? flush(deadline)
                throw error
            }
        }
    }

    /// Sends all of `bytes`. After a `timeout` the rest is kept and goes out with the next call.
    package func write(_ bytes: [UInt8]) throws(TrustError) {
        guard isOpen else { throw TrustError(.io, "the stream is closed") }
        var plaintext = ByteBuffer(bytes: bytes)
        let progress = session.encrypt(&plaintext, into: &output)
        try flush(Deadline(after: timeout))
        if case .failed(let error) = progress { throw error }
    }

    /// Says close_notify, if the socket takes it at once, and closes. Later calls throw.
    package func close() {
        guard isOpen else { return }
        session.close()
        session.remember()
        // The farewell is a courtesy: a peer that no longer listens must not hold up the close.
        try? flush(Deadline(after: .zero))
        _ = Glibc.close(socket)
        isOpen = false
    }

    private func handshake(_ deadline: Deadline) throws(TrustError) {
        while true {
            let progress = session.handshake()
            if case .failed(let error) = progress {
                // The alert tells the server why; the error that is thrown matters more than whether it
                // arrives.
                try? flush(deadline)
                throw error
            }
            try flush(deadline)
            if case .done = progress { break }
            try receive(deadline, atEnd: .handshake)
        }
        _ = try session.agreement()
    }

    private func flush(_ deadline: Deadline) throws(TrustError) {
        session.drain(into: &output)
        while output.readableBytes > 0 {
            let count = unsafe output.withUnsafeReadableBytes {
                unsafe Glibc.send(socket, $0.baseAddress, $0.count, Int32(MSG_NOSIGNAL))
            }
            if count >= 0 {
                output.moveReaderIndex(forwardBy: count)
            } else {
                try Self.retry(socket, POLLOUT, deadline, "send")
            }
        }
        output.clear()
    }

    /// Feeds the session with what the socket has, waiting for it if need be.
    private func receive(_ deadline: Deadline, atEnd code: TrustError.Code) throws(TrustError) {
        while true {
            var count = 0
            input.clear()
            unsafe input.writeWithUnsafeMutableBytes(minimumWritableBytes: TLSSession.pieceByteCount) {
                space in
                count = unsafe recv(socket, space.baseAddress, TLSSession.pieceByteCount, 0)
                return max(0, count)
            }
            if count > 0 { return session.feed(&input) }
            if count == 0 { throw TrustError(code, "the connection ended without close_notify") }
            try Self.retry(socket, POLLIN, deadline, "receive")
        }
    }

    /// After a call that failed: returns when it is worth trying again, throws otherwise.
    private static func retry(
        _ socket: Int32, _ events: Int32, _ deadline: Deadline, _ action: String
    ) throws(TrustError) {
        switch errno {
        case EINTR: return
        case EAGAIN, EINPROGRESS: break
        case let number: throw TrustError(.io, "cannot \(action): \(text(of: number))")
        }
        while true {
            var entry = pollfd(fd: socket, events: Int16(events), revents: 0)
            let ready = unsafe poll(&entry, 1, deadline.milliseconds)
            if ready > 0 { return }
            if ready == 0 { throw TrustError(.timeout, "cannot \(action): the time limit passed") }
            if errno != EINTR { throw TrustError(.io, "cannot \(action): \(text(of: errno))") }
        }
    }

    private static func openSocket(host: String, port: Int, deadline: Deadline) throws(TrustError) -> Int32 {
        var hints = unsafe addrinfo()
        unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        unsafe hints.ai_flags = AI_NUMERICSERV
        var list: UnsafeMutablePointer<addrinfo>?
        let status = unsafe getaddrinfo(host, String(port), &hints, &list)
        guard status == 0 else {
            throw TrustError(.io, "cannot resolve \(host): \(unsafe String(cString: gai_strerror(status)))")
        }
        defer { unsafe freeaddrinfo(list) }
        var lastError = TrustError(.io, "\(host) has no address")
        var next = unsafe list
        while let address = unsafe next {
            do {
                return try unsafe connect(to: address.pointee, deadline)
            } catch {
                lastError = error
            }
            unsafe next = address.pointee.ai_next
        }
        throw lastError
    }

    private static func connect(to address: addrinfo, _ deadline: Deadline) throws(TrustError) -> Int32 {
        let type = Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue | SOCK_NONBLOCK.rawValue)
        let socket = unsafe Glibc.socket(address.ai_family, type, address.ai_protocol)
        guard socket >= 0 else { throw TrustError(.io, "cannot make a socket: \(text(of: errno))") }
        do throws(TrustError) {
            var on: Int32 = 1
            _ = unsafe setsockopt(
                socket, Int32(IPPROTO_TCP), TCP_NODELAY, &on, socklen_t(MemoryLayout<Int32>.size))
            if unsafe Glibc.connect(socket, address.ai_addr, address.ai_addrlen) != 0 {
                try retry(socket, POLLOUT, deadline, "connect")
                var result: Int32 = 0
                var size = socklen_t(MemoryLayout<Int32>.size)
                _ = unsafe getsockopt(socket, SOL_SOCKET, SO_ERROR, &result, &size)
                guard result == 0 else { throw TrustError(.io, "cannot connect: \(text(of: result))") }
            }
            return socket
        } catch {
            _ = Glibc.close(socket)
            throw error
        }
    }

    private static func text(of number: Int32) -> String { unsafe String(cString: strerror(number)) }
}

/// The instant after which a call gives up.
private struct Deadline {
    private let instant: ContinuousClock.Instant

    init(after duration: Duration) { instant = .now + duration }

    /// What is left, rounded up, for `poll`.
    var milliseconds: Int32 {
        let left = max(.zero, ContinuousClock.now.duration(to: instant))
        let (seconds, attoseconds) = left.components
        return Int32(clamping: seconds * 1000 + (attoseconds + 999_999_999_999_999) / 1_000_000_000_000_000)
    }
}
