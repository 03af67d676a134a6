package import Domain
import Streams
import Synchronization
import Trust
package import Wire

/// What organizations did in the last minute, and what their weights entitle them to.
package final class QueueRates: Sendable {
    private struct Active {
        let organizations: Set<OrganizationID>
        let weights: [OrganizationID: Double]
        let sum: Double
        let read: ContinuousClock.Instant
    }

    let front: QueueFront
    private let active = Mutex<Active?>(nil)

    /// Rates as the queue has them.
    package init(front: QueueFront) { self.front = front }

    /// How one organization did.
    package struct Rate: Sendable, Equatable {
        /// Its part of all runs that were marked; `nil` if none was.
        package var share: Double?
        /// Its weight's part of the weights of all that have work; `nil` if it has none.
        package var entitlement: Double?
        /// Runs marked and ended a second.
        package var startRate: Double
        package var drainRate: Double
    }

    /// The rates of these organizations.
    package func rates(of organizations: [OrganizationID]) async throws -> [OrganizationID: Rate] {
        guard !organizations.isEmpty else { return [:] }
        let work = try await front.queue.rates(
            of: organizations, atMilliseconds: Int(Instant.now().microseconds / 1_000))
        let active = try await activeNow()
        return Dictionary(
            organizations.map { id in
                let count = work.byOrganization[id] ?? WorkCount()
                return (
                    id,
                    Rate(
                        share: work.total.marked > 0
                            ? Double(count.marked) / Double(work.total.marked) : nil,
                        entitlement: active.organizations.contains(id)
                            ? (active.weights[id] ?? 1) / active.sum : nil,
                        startRate: Double(count.marked) / work.seconds,
                        drainRate: Double(count.ended) / work.seconds)
                )
            }
        ) { first, _ in first }
    }

    /// Queues with what is known of their organizations' rates.
    package func fill(_ queues: [QueueStatus]) async throws -> [QueueStatus] {
        let rates = try await rates(of: Array(Set(queues.map(\.organizationId))))
        return queues.map { queue in
            var queue = queue
            let rate = rates[queue.organizationId]
            (queue.share, queue.entitlement) = (rate?.share, rate?.entitlement)
            queue.drainRate = rate?.drainRate
            return queue
        }
    }

    /// Who has work, read at most once a second: all organizations' are walked for it.
    private func activeNow() async throws -> Active {
        if let known = active.withLock({ $0 }), ContinuousClock.now - known.read < .seconds(1) {
            return known
        }
        let organizations = try await front.queue.activeOrganizations()
        let weights = Dictionary(
            try await front.queue.entitlements().map { ($0.organization, $0.weight) }
        ) { first, _ in first }
        let read = Active(
            organizations: organizations, weights: weights,
            sum: organizations.reduce(0) { $0 + (weights[$1] ?? 1) }, read: .now)
        active.withLock { $0 = read }
        return read
    }
}
