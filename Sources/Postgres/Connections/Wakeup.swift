import CPostgres
import Glibc

/// An eventfd by which other threads end a connection's `poll()`.
final class Wakeup: Sendable {
    let descriptor: Int32

    init() {
        descriptor = eventfd(0, Int32(EFD_CLOEXEC | EFD_NONBLOCK))
        precondition(descriptor >= 0, "no descriptor left for an eventfd")
    }

    deinit { close(descriptor) }

    func signal() { _ = eventfd_write(descriptor, 1) }

    func reset() {
        var count: UInt64 = 0
        _ = unsafe eventfd_read(descriptor, &count)
    }

    /// Waits until the wake-up or `socket` is ready for `events`, or the time is over.
    ///
    /// Whether the socket is ready is returned.
    func wait(socket: Int32?, events: Int32, until deadline: ContinuousClock.Instant?) -> Bool {
        var descriptors = [pollfd(fd: descriptor, events: Int16(POLLIN), revents: 0)]
        if let socket { descriptors.append(pollfd(fd: socket, events: Int16(events), revents: 0)) }
        var milliseconds: Int32 = -1
        if let deadline {
            let left = ContinuousClock.now.duration(to: deadline)
            milliseconds = left <= .zero ? 0 : Int32(clamping: left.milliseconds + 1)
        }
        let ready = unsafe poll(&descriptors, nfds_t(descriptors.count), milliseconds)
        guard ready > 0 else { return false }
        if descriptors[0].revents != 0 { reset() }
        return socket != nil && descriptors[1].revents != 0
    }
}

extension Duration {
    /// Whole milliseconds, rounded down.
    var milliseconds: Int64 {
        let (seconds, attoseconds) = components
        return seconds * 1000 + attoseconds / 1_000_000_000_000_000
    }
}
