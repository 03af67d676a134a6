import Dispatch
package import Domain

/// The device's own clock.
package enum WallClock {
    /// The time of day, UTC, to the microsecond.
    ///
    /// Dispatch keeps a wall time as nanoseconds since 1970, negated, in 64 bits (dispatch_walltime in
    /// libdispatch's `time.c`); a test compares it with the system's seconds.
    @Sendable
    package static func now() -> Instant {
        Instant(microseconds: Int64(bitPattern: 0 &- DispatchWallTime.now().rawValue) / 1_000)
    }
}
