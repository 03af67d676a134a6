import Synchronization
import Wire

/// Durations that were measured, to be shown as percentiles.
final class Latencies: Sendable {
    private let values = Mutex<[Double]>([])

    func add(_ duration: Duration) {
        let (seconds, attoseconds) = duration.components
        values.withLock { $0.append(Double(seconds) * 1_000 + Double(attoseconds) / 1e15) }
    }

    /// Percentiles in milliseconds, by nearest rank.
    func write(_ name: String, to writer: inout JSONWriter) {
        let sorted = values.withLock { $0.sorted() }
        writer.object(name) { writer in
            writer.field("count", sorted.count)
            guard !sorted.isEmpty else { return }
            for (name, part) in [("p50", 0.5), ("p90", 0.9), ("p99", 0.99), ("max", 1.0)] {
                let rank = Int((part * Double(sorted.count)).rounded(.up))
                writer.field(name, (sorted[max(0, rank - 1)] * 1_000).rounded() / 1_000)
            }
        }
    }
}
