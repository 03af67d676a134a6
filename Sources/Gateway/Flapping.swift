import Domain

/// Devices whose sessions come and go. A session that ends at once puts the runs back that its hello has
/// woken, so the waking waits longer with each in a row. Pure.
///
/// | a device is | and then |
/// |---|---|
/// | unknown | its session makes it calm |
/// | calm, up to `calmMax` in a row | one within `window` is one more in the row, a later one the first |
/// | flapping, with more than that | as above; its runs wait, twice as long each time, up to `window` |
struct Flapping {
    /// Sessions that begin within this time of each other are in a row.
    static let window = Duration.seconds(60)
    /// Sessions in a row that nobody minds.
    static let calmMax = 3
    private static let backoff = Backoff(base: .seconds(1), limit: window)

    private var devices: [DeviceID: (last: ContinuousClock.Instant, inRow: Int)] = [:]
    private var due: [DeviceID: ContinuousClock.Instant] = [:]

    /// A session of a device begins; how long its waiting runs have to wait now.
    mutating func connected(_ device: DeviceID, now: ContinuousClock.Instant) -> Duration {
        let before = devices[device].flatMap { now - $0.last < Self.window ? $0.inRow : nil } ?? 0
        devices[device] = (now, before + 1)
        guard before >= Self.calmMax else { return .zero }
        let wait = Self.backoff.ceiling(attempt: before - Self.calmMax)
        // Who comes again before its time does not put it off.
        due[device] = min(due[device] ?? now + wait, now + wait)
        return wait
    }

    /// The devices whose wait is over, each once. Forgets who has been calm for long.
    mutating func takeDue(now: ContinuousClock.Instant) -> [DeviceID] {
        devices = devices.filter { now - $0.value.last < Self.window }
        let over = due.filter { $0.value <= now }.map(\.key)
        for device in over { due[device] = nil }
        return over
    }
}
