import Ledger
import Synchronization

/// What a gateway has counted since it began.
package final class GatewayCounters: Sendable {
    private let counts = Mutex<[String: Int]>([:])

    /// The counts by name.
    package var snapshot: [String: Int] { counts.withLock { $0 } }

    func increment(_ name: String, by n: Int = 1) { counts.withLock { $0[name, default: 0] += n } }

    func count(_ settlements: [Settlement]) {
        counts.withLock { counts in
            for settlement in settlements {
                let name =
                    switch settlement {
                    case .settled: "settled"
                    case .amended: "amended"
                    case .duplicate: "duplicate"
                    case .late: "late"
                    case .foreign: "foreign"
                    }
                counts[name, default: 0] += 1
            }
        }
    }
}
