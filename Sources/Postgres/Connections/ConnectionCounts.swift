import Synchronization

/// What the connections of a pool have been through since it was made.
package final class ConnectionCounts: Sendable {
    let established = Atomic(0)
    let failed = Atomic(0)
    let waits = Atomic(0)

    init() {}

    /// Connections that were established.
    package var connections: Int { established.load(ordering: .relaxed) }
    /// Connections that were lost or could not be established.
    package var failures: Int { failed.load(ordering: .relaxed) }
    /// Transactions that waited for a connection.
    package var leaseWaits: Int { waits.load(ordering: .relaxed) }
}
