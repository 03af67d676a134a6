import Redis

/// Why the queue did not do what it was asked. Errors of the connection pass through as `RedisError`.
package enum QueueError: Error, Equatable, CustomStringConvertible {
    /// The call named another epoch than the data set has; `nil` when there is none: lost, or being rebuilt.
    case staleEpoch(current: Epoch?)
    /// Redis is at its memory limit; nothing was admitted.
    case full
    /// A value or a key that cannot be right, in one sentence.
    case refused(String)
    /// The function library is not in the server; `Queue.load` brings it.
    case libraryMissing
    /// A cluster moved the partition's slot while a function ran, which ended in the middle.
    case cutOff

    /// One sentence that names no tenant.
    package var description: String {
        switch self {
        case .staleEpoch(let current?): "queue: the epoch has changed to \(current)"
        case .staleEpoch(nil): "queue: the data set is lost or being rebuilt"
        case .full: "queue: Redis is at its memory limit"
        case .refused(let reason): "queue: \(reason)"
        case .libraryMissing: "queue: the function library is not loaded"
        case .cutOff: "queue: the partition moved to another server meanwhile"
        }
    }

    /// Whether the same call may succeed later without anybody changing it. A stale epoch stays stale.
    package var isTransient: Bool {
        switch self {
        case .full, .libraryMissing, .cutOff: true
        case .staleEpoch, .refused: false
        }
    }

    /// What an error reply of one of the functions means; `nil` for any other error.
    init?(_ error: RedisError) {
        let rest = error.message.split(separator: " ", maxSplits: 1).dropFirst().first.map(String.init) ?? ""
        switch error.serverCode {
        case "STALEEPOCH"?: self = .staleEpoch(current: rest.isEmpty ? nil : Epoch(rest))
        case "OOM"?: self = .full
        case "REFUSED"?, "WRONGTYPE"?: self = .refused(rest)
        case "ERR"? where rest.hasPrefix("Function not found"): self = .libraryMissing
        case "ERR"? where rest.contains("access a non local key"): self = .cutOff
        default: return nil
        }
    }
}
