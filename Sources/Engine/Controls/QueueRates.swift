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
        let work = try await work(of: organizations)
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

    /// What was counted in the last minute, over all partitions.
    private func work(of organizations: [OrganizationID]) async throws -> WorkRates {
        let now = Int(Instant.now().microseconds / 1_000)
        var (total, byOrganization, seconds) = (WorkCount(), [OrganizationID: WorkCount](), 60.0)
        for part in front.parts {
            let work = try await part.queue.rates(of: organizations.filter(part.has), atMilliseconds: now)
            total = total + work.total
            byOrganization.merge(work.byOrganization) { first, _ in first }
            seconds = work.seconds
        }
        return WorkRates(seconds: seconds, total: total, byOrganization: byOrganization)
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

    /// The organizations that have work, in all partitions.
    func activeOrganizations() async throws -> Set<OrganizationID> { try await activeNow().organizations }

    /// Who has work, read at most once a second: all organizations' are walked for it.
    private func activeNow() async throws -> Active {
        if let known = active.withLock({ $0 }), ContinuousClock.now - known.read < .seconds(1) {
            return known
        }
        var organizations: Set<OrganizationID> = []
        var weights: [OrganizationID: Double] = [:]
        for part in front.parts {
            organizations.formUnion(try await part.queue.activeOrganizations())
            for found in try await part.queue.entitlements() { weights[found.organization] = found.weight }
        }
        let read = Active(
            organizations: organizations, weights: weights,
            sum: organizations.reduce(0) { $0 + (weights[$1] ?? 1) }, read: .now)
        active.withLock { $0 = read }
        return read
    }
}
