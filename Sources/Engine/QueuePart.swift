package import Domain
package import Streams
import Synchronization

/// One partition of the queue as the rest of the engine uses it: it knows the epoch in force.
package final class QueuePart: Sendable {
    /// The queue of the partition.
    package let queue: Queue
    /// Wakes the refiller of this process.
    package let refill = Wake()
    private let settling: Duration
    private let known = Mutex<Known>(Known())

    private struct Known {
        var epoch: Epoch?
        var latest: Epoch?
        var since = ContinuousClock.now
    }

    init(queue: Queue, settling: Duration) {
        self.queue = queue
        self.settling = settling
    }

    /// Its number, from 0.
    package var number: Int { queue.keys.partition }

    /// Whether it has an organization.
    package func has(_ organization: OrganizationID) -> Bool {
        queue.keys.count == 1 || Keyspace.partition(of: organization, count: queue.keys.count) == number
    }

    /// The epoch of the data set, as Redis has it now if none is remembered. One of another layout, be it by
    /// the number of partitions alone, is none. Redis is given no longer than is said.
    package func epoch(within limit: Duration? = nil) async throws -> Epoch {
        if let epoch = known.withLock({ $0.epoch }) { return epoch }
        guard let epoch = try await present(within: limit) else { throw QueueError.staleEpoch(current: nil) }
        known.withLock { known in
            if known.latest != epoch { (known.latest, known.since) = (epoch, .now) }
            known.epoch = epoch
        }
        return epoch
    }

    /// The epoch in Redis now; `nil` while there is none of this layout. Waits no longer than is said.
    package func present(within limit: Duration? = nil) async throws -> Epoch? {
        guard let epoch = try await queue.epoch(within: limit) else { return nil }
        let layout = queue.keys.layout
        return Keyspace.layout(ofEpoch: epoch.id) ?? layout[...] == layout ? epoch : nil
    }

    /// Whether the data set is so new that gateways may not have said again whom they hold: until then a
    /// missing presence means nothing.
    var isSettling: Bool { known.withLock { ContinuousClock.now - $0.since < settling } }

    /// Those of these devices that nobody holds, by the data set in force and no other: of a new one a
    /// missing presence means nothing, and Redis is given a quarter of a second for each of two questions.
    func away(_ devices: [DeviceID]) async -> Set<DeviceID> {
        let limit = Duration.milliseconds(250)
        do {
            let epoch = try await epoch(within: limit)
            let (held, current) = try await queue.presence(of: devices, within: limit)
            guard current == epoch else {
                forgetEpoch()
                return []
            }
            return isSettling ? [] : Set(zip(devices, held).lazy.filter { $1 == nil }.map(\.0))
        } catch {
            return []
        }
    }

    /// Calls the queue under the epoch in force; a stale one is forgotten and read once more.
    package func call<Value: Sendable>(_ body: (Epoch) async throws -> Value) async throws -> Value {
        do {
            return try await body(epoch())
        } catch QueueError.staleEpoch {
            forgetEpoch()
            return try await body(epoch())
        }
    }

    /// Forgets the epoch: the next call reads it.
    package func forgetEpoch() { known.withLock { $0.epoch = nil } }
}
