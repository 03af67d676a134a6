package import Domain
package import Ledger
package import Postgres
import Streams
package import Wire

/// Which devices hold a session now.
package struct Presence: Sendable {
    private let front: QueueFront

    /// Presence as the queue has it.
    package init(front: QueueFront) { self.front = front }

    /// Those of the devices whose gateway's heartbeat lives.
    package func online(_ devices: [(OrganizationID, DeviceID)]) async throws -> Set<DeviceID> {
        let present = try await front.arePresent(devices)
        return Set(zip(devices, present).compactMap { device, isPresent in isPresent ? device.1 : nil })
    }
}

/// The queues as they are shown: counts from PostgreSQL, weights and caps from the queue.
package struct QueueView: Sendable {
    private let ledger: Ledger
    private let front: QueueFront

    /// A view over both.
    package init(ledger: Ledger, front: QueueFront) {
        self.ledger = ledger
        self.front = front
    }

    /// The queues of one organization; none if the scope does not see it.
    package func queues(of organization: OrganizationID, scope: Scope) async throws -> [QueueStatus] {
        let id = organization.value
        let before = OrganizationID(UniqueID(high: id.low == 0 ? id.high &- 1 : id.high, low: id.low &- 1))
        let rows = try await queues(
            after: OrganizationQueue(before, .bulk), limit: Priority.allCases.count, scope: scope)
        return rows.filter { $0.organizationId == organization }
    }

    /// The queues of the organizations that the scope sees, by organization and priority.
    package func queues(after: OrganizationQueue?, limit: Int, scope: Scope) async throws -> [QueueStatus] {
        // Many queues are counted less far each, so that a page costs about the same whatever its length.
        let atMost = min(Ledger.queueCountMax, max(1_000, 300_000 / max(1, limit)))
        let depths = try await ledger.queueDepths(
            after: after, limit: limit, countingAtMost: atMost, scope: scope)
        var live: [Depth] = []
        let organizations = Set(depths.map(\.queue.organization))
        for (part, own) in front.split(organizations.map { ($0, $0) }) {
            live += try await part.queue.depths(of: own)
        }
        let byOrganization = Dictionary(live.map { ($0.organization, $0) }) { first, _ in first }
        return depths.map { depth in
            let live = byOrganization[depth.queue.organization]
            return QueueStatus(
                organizationId: depth.queue.organization, priority: depth.queue.priority,
                depth: depth.queued, exact: depth.isExact,
                oldestAgeSeconds: depth.oldestAgeSeconds, waiting: depth.waiting, running: depth.running,
                cap: live?.cap, weight: live?.weight ?? 1, share: nil, entitlement: nil, drainRate: nil)
        }
    }
}
