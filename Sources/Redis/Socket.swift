import CHiredis
import Glibc

/// The address of a socket, in the bytes that the kernel takes.
struct SocketAddress: Sendable {
    /// `sun_path` has 108 bytes, the last of which is the terminating NUL.
    static let pathBytesMax = 107

    let family: Int32
    let bytes: [UInt8]

    /// The addresses of a server, in the order in which to try them.
    ///
    /// A host name is looked up by the resolver of the C library, which blocks within the limits of its own
    /// configuration (`resolv.conf`); so only a connection's own thread calls this.
    static func resolve(_ address: RedisConfiguration.Address) throws(RedisError) -> [SocketAddress] {
        switch address {
        case .unix(let path):
            let family = unsafe withUnsafeBytes(of: sa_family_t(AF_UNIX)) { unsafe Array($0) }
            return [SocketAddress(family: AF_UNIX, bytes: family + path.utf8 + [0])]
        case .tcp(let host, let port):
            return try lookUp(host, port: port)
        }
    }

    private static func lookUp(_ host: String, port: Int) throws(RedisError) -> [SocketAddress] {
        var hints = unsafe addrinfo()
        unsafe hints.ai_family = AF_UNSPEC
        unsafe hints.ai_socktype = Int32(SOCK_STREAM.rawValue)
        unsafe hints.ai_flags = AI_ADDRCONFIG | AI_NUMERICSERV
        var first: UnsafeMutablePointer<addrinfo>?
        let code = unsafe getaddrinfo(host, String(port), &hints, &first)
        guard code == 0 else {
            throw RedisError(
                .connection, "cannot look up \(host): \(unsafe String(cString: gai_strerror(code)))")
        }
        defer { unsafe freeaddrinfo(first) }
        var addresses: [SocketAddress] = []
        var next = unsafe first
        while let entry = unsafe next {
            let raw = unsafe UnsafeRawBufferPointer(
                start: entry.pointee.ai_addr, count: Int(entry.pointee.ai_addrlen))
            addresses.append(SocketAddress(family: unsafe entry.pointee.ai_family, bytes: unsafe Array(raw)))
            unsafe next = entry.pointee.ai_next
        }
        return addresses
    }
}

/// One non-blocking stream socket; closed when the last reference goes. Used by one thread at a time, but for
/// the `poll` of the connection's thread: where a caller has closed it, that is woken, and finds none.
final class Socket {
    /// What a send or a receive came to.
    enum Transfer {
        case bytes(Int)
        case wouldBlock
        case ended
    }

    let descriptor: Int32

    /// Begins to connect; the socket becomes writable when that has succeeded or failed (`finishConnecting`).
    init(connectingTo address: SocketAddress) throws(RedisError) {
        let type = Int32(SOCK_STREAM.rawValue) | Int32(SOCK_NONBLOCK.rawValue) | Int32(SOCK_CLOEXEC.rawValue)
        descriptor = socket(address.family, type, 0)
        guard descriptor >= 0 else { throw RedisError(.connection, "cannot make a socket: \(reason(errno))") }
        if address.family != AF_UNIX {
            enable(Int32(TCP_NODELAY), level: Int32(IPPROTO_TCP))
            enable(SO_KEEPALIVE, level: SOL_SOCKET)
        }
        let code = unsafe address.bytes.withUnsafeBytes { raw in
            unsafe connect(
                descriptor, raw.baseAddress!.assumingMemoryBound(to: sockaddr.self), socklen_t(raw.count))
        }
        guard code == 0 || errno == EINPROGRESS else {
            throw RedisError(.connection, "cannot connect: \(reason(errno))")
        }
    }

    deinit { close(descriptor) }

    /// Throws what the attempt to connect ended with, if that was a failure.
    func finishConnecting() throws(RedisError) {
        var code: Int32 = 0
        var length = socklen_t(MemoryLayout<Int32>.size)
        unsafe getsockopt(descriptor, SOL_SOCKET, SO_ERROR, &code, &length)
        guard code == 0 else { throw RedisError(.connection, "cannot connect: \(reason(code))") }
    }

    /// Sends as much as the kernel takes now; never raises SIGPIPE.
    func send(_ bytes: ArraySlice<UInt8>) throws(RedisError) -> Transfer {
        let count = unsafe bytes.withUnsafeBytes { raw in
            unsafe Glibc.send(descriptor, raw.baseAddress, raw.count, Int32(MSG_NOSIGNAL))
        }
        return try transfer(count, verb: "send")
    }

    /// Receives what has arrived, at most `buffer` long.
    func receive(into buffer: inout [UInt8]) throws(RedisError) -> Transfer {
        let count = unsafe buffer.withUnsafeMutableBytes { raw in
            unsafe recv(descriptor, raw.baseAddress, raw.count, 0)
        }
        return count == 0 ? .ended : try transfer(count, verb: "receive")
    }

    private func transfer(_ count: Int, verb: String) throws(RedisError) -> Transfer {
        if count >= 0 { return .bytes(count) }
        if errno == EAGAIN || errno == EINTR { return .wouldBlock }
        throw RedisError(.connection, "cannot \(verb): \(reason(errno))")
    }

    private func enable(_ option: Int32, level: Int32) {
        var on: Int32 = 1
        unsafe setsockopt(descriptor, level, option, &on, socklen_t(MemoryLayout<Int32>.size))
    }
}

/// An eventfd: any thread rings it, one thread polls and silences it.
final class Wakeup: Sendable {
    /// Negative when the process has no descriptor left.
    let descriptor = eventfd(0, Int32(EFD_NONBLOCK | EFD_CLOEXEC))

    deinit { close(descriptor) }

    func ring() {
        eventfd_write(descriptor, 1)
    }

    func silence() {
        var count: eventfd_t = 0
        unsafe eventfd_read(descriptor, &count)
    }
}

/// The text of an `errno`.
func reason(_ code: Int32) -> String {
    unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 256) { buffer in
        let text = buffer.baseAddress!
        return unsafe strerror_r(code, text, buffer.count) == 0 ? String(cString: text) : "error \(code)"
    }
}
