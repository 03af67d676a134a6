import Engine
import Ledger

extension EventCounters {
    /// Counts what became of results.
    func count(_ settlements: [Settlement]) {
        for settlement in settlements {
            switch settlement {
            case .settled: increment("settled")
            case .retried: increment("retried")
            case .amended: increment("amended")
            case .duplicate: increment("duplicate")
            case .late: increment("late")
            case .foreign: increment("foreign")
            }
        }
    }
}
