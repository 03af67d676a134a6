import Glibc

/// The three streams of a run, pumped without ever blocking on one of them.
struct RunStreams {
    private(set) var stdout: CapturedOutput
    private(set) var stderr: CapturedOutput

    private let child: Child
    private let stdin: HiddenBytes
    private var written = 0
    private var stdinIsOpen: Bool
    private var stdoutIsOpen = true
    private var stderrIsOpen = true
    private var buffer = [UInt8](repeating: 0, count: 64 * 1024)

    /// Both outputs were read to their end.
    var haveEnded: Bool { !stdoutIsOpen && !stderrIsOpen }

    init(child: Child, stdin: HiddenBytes, limits: RunLimits) {
        self.child = child
        self.stdin = stdin
        stdinIsOpen = child.stdinFD >= 0
        let empty = CapturedOutput(headBytesMax: limits.headBytes, tailBytesMax: limits.tailBytes)
        (stdout, stderr) = (empty, empty)
        if stdinIsOpen { _ = fcntl(child.stdinFD, F_SETFL, O_NONBLOCK) }
        _ = fcntl(child.stdoutFD, F_SETFL, O_NONBLOCK)
        _ = fcntl(child.stderrFD, F_SETFL, O_NONBLOCK)
    }

    /// Waits until a stream can be served, the leader ends, somebody wakes or the time is over, and serves.
    mutating func pump(
        wake: Wake, leader: ChildProcess?, waitNanoseconds: UInt64,
        filter: (OutputStream, ArraySlice<UInt8>?) -> ArraySlice<UInt8>,
        onOutput: (OutputStream, Int, ArraySlice<UInt8>) -> Void
    ) {
        func wanted(_ descriptor: Int32?, _ events: Int32) -> pollfd {
            // poll(2) skips negative descriptors.
            pollfd(fd: descriptor ?? -1, events: Int16(events), revents: 0)
        }
        var polled = [
            wanted(wake.descriptor, POLLIN), wanted(leader?.descriptor, POLLIN),
            wanted(stdoutIsOpen ? child.stdoutFD : nil, POLLIN),
            wanted(stderrIsOpen ? child.stderrFD : nil, POLLIN),
            wanted(stdinIsOpen ? child.stdinFD : nil, POLLOUT),
        ]
        // Rounded up, or the last millisecond would spin.
        let milliseconds = min((waitNanoseconds &+ 999_999) / 1_000_000, 3_600_000)
        guard unsafe poll(&polled, nfds_t(polled.count), Int32(milliseconds)) > 0 else { return }
        if polled[0].revents != 0 { wake.wait() }
        if polled[2].revents != 0 { read(.stdout, filter, onOutput) }
        if polled[3].revents != 0 { read(.stderr, filter, onOutput) }
        if polled[4].revents != 0 { write() }
    }

    private mutating func read(
        _ stream: OutputStream, _ filter: (OutputStream, ArraySlice<UInt8>?) -> ArraySlice<UInt8>,
        _ onOutput: (OutputStream, Int, ArraySlice<UInt8>) -> Void
    ) {
        let count = unsafe Glibc.read(
            stream == .stdout ? child.stdoutFD : child.stderrFD, &buffer, buffer.count)
        if count < 0 && (errno == EAGAIN || errno == EINTR) { return }
        guard count > 0 else {
            if stream == .stdout { stdoutIsOpen = false } else { stderrIsOpen = false }
            return
        }
        take(filter(stream, buffer[..<count]), of: stream, onOutput)
    }

    /// Takes what the filter held back of each output.
    mutating func end(
        filter: (OutputStream, ArraySlice<UInt8>?) -> ArraySlice<UInt8>,
        onOutput: (OutputStream, Int, ArraySlice<UInt8>) -> Void
    ) {
        for stream in OutputStream.allCases { take(filter(stream, nil), of: stream, onOutput) }
    }

    private mutating func take(
        _ piece: ArraySlice<UInt8>, of stream: OutputStream,
        _ onOutput: (OutputStream, Int, ArraySlice<UInt8>) -> Void
    ) {
        guard !piece.isEmpty else { return }
        onOutput(stream, stream == .stdout ? stdout.totalBytes : stderr.totalBytes, piece)
        if stream == .stdout { stdout.append(piece) } else { stderr.append(piece) }
    }

    /// A program that closes its input early just gets no more of it.
    private mutating func write() {
        var count = 0
        let (descriptor, written) = (child.stdinFD, self.written)
        stdin.withBytes { bytes in
            count = unsafe bytes.withUnsafeBufferPointer { bytes in
                unsafe Glibc.write(descriptor, bytes.baseAddress! + written, bytes.count - written)
            }
        }
        if count < 0 && (errno == EAGAIN || errno == EINTR) { return }
        self.written += max(0, count)
        if count < 0 || self.written == stdin.count {
            stdinIsOpen = false
            child.closeStdin()
        }
    }
}
