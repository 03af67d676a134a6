package import Domain
import Glibc

extension Instant {
    /// The present, by this machine's wall clock: the clock by which statements and certificates are judged.
    package static func now() -> Instant {
        var time = timespec()
        // clock_gettime(2) fails only for a clock that does not exist.
        unsafe clock_gettime(CLOCK_REALTIME, &time)
        return Instant(microseconds: Int64(time.tv_sec) * 1_000_000 + Int64(time.tv_nsec) / 1_000)
    }
}
