package import Domain
package import Ledger
package import Postgres
import Streams

/// Brings weights, caps and pauses of organizations from PostgreSQL to Redis.
///
/// Whoever brings one reads it again afterwards and repeats if it has changed meanwhile: of several at the
/// same time the last one leaves what PostgreSQL has, whatever the order of their writes.
package struct EntitlementSync: Sendable {
    private let ledger: Ledger
    private let front: QueueFront
    private let scope: Scope

    /// A sync of what the scope sees.
    package init(ledger: Ledger, front: QueueFront, scope: Scope = .platform) {
        self.ledger = ledger
        self.front = front
        self.scope = scope
    }

    /// Compares all that differs from the default on either side; returns how many organizations were put
    /// right. Redis is read first: what changed in between is already there, or is brought once more.
    package func compare() async throws -> Int {
        var failure: (any Error)?
        var corrected: Set<OrganizationID?> = []
        for comparison in [compareLimits, comparePauses] {
            do { corrected.formUnion(try await comparison()) } catch { failure = failure ?? error }
        }
        if let failure { throw failure }
        return corrected.count
    }

    /// Compares weights, caps and buckets, in each partition by itself: one that does not answer keeps no
    /// other from it. Returns the organizations that were put right.
    func compareLimits() async throws -> Set<OrganizationID?> {
        let wanted = try await ledger.limits()
        return try await inEach(front.parts) { part in
            try await self.compareLimits(wanted.filter { part.has($0.organization) }, in: part)
        }.reduce(into: []) { $0.formUnion($1) }
    }

    private func compareLimits(
        _ wanted: [OrganizationLimits], in part: QueuePart
    ) async throws -> Set<OrganizationID?> {
        var inRedis: [OrganizationID: OrganizationLimits] = [:]
        for found in try await part.queue.entitlements() {
            inRedis[found.organization] = OrganizationLimits(found)
        }
        var differing: Set<OrganizationID> = Set(inRedis.keys)
        for limits in wanted {
            if inRedis[limits.organization] == limits {
                differing.remove(limits.organization)
            } else {
                differing.insert(limits.organization)
            }
        }
        for start in stride(from: 0, to: differing.count, by: Self.pageMax) {
            try await bring(Array(differing.sorted()[start..<min(start + Self.pageMax, differing.count)]))
        }
        return Set(differing.map { $0 })
    }

    private func comparePauses() async throws -> Set<OrganizationID?> {
        let paused = Set(try await ledger.pauses(of: nil, scope: scope).map(Pause.init))
        return try await inEach(front.parts) { part in
            // A pause of all is in force in every partition.
            let wanted = paused.filter { $0.organization.map(part.has) ?? true }
            let others = Set(wanted.symmetricDifference(try await part.queue.pauses()).map(\.organization))
            for organization in others { try await self.bringPauses(of: organization, to: part) }
            return others
        }.reduce(into: []) { $0.formUnion($1) }
    }

    /// Brings these organizations' weights, caps and buckets.
    package func bring(_ organizations: [OrganizationID]) async throws {
        var wanted = try await self.wanted(organizations)
        for _ in 0..<Self.triesMax {
            for limits in wanted { try await write(limits) }
            let now = try await self.wanted(organizations)
            if now == wanted { return }
            wanted = now
        }
    }

    /// What these organizations are to have; one that is no more has nothing of its own.
    private func wanted(_ organizations: [OrganizationID]) async throws -> [OrganizationLimits] {
        let known = try await ledger.limits(of: organizations, scope: scope)
        guard scope == .platform, known.count < organizations.count else { return known }
        let gone = Set(organizations).subtracting(known.map(\.organization))
        return known + gone.sorted().map(OrganizationLimits.standard)
    }

    /// Brings the pauses of an organization; `nil` for those of all together, to each partition.
    package func bringPauses(of organization: OrganizationID?) async throws {
        let parts = organization.map { [front.part(of: $0)] } ?? front.parts
        var failure: (any Error)?
        // A partition that does not answer keeps no other from it.
        for part in parts {
            do {
                try await bringPauses(of: organization, to: part)
            } catch {
                failure = failure ?? error
            }
        }
        if let failure { throw failure }
    }

    private func bringPauses(of organization: OrganizationID?, to part: QueuePart) async throws {
        let queue = part.queue
        for _ in 0..<Self.triesMax {
            let wanted = Set(try await ledger.pauses(of: .some(organization), scope: scope).map(Pause.init))
            let present = try await queue.pauses().filter { $0.organization == organization }
            if wanted == present { return }
            try await part.call { epoch in
                for pause in wanted.subtracting(present) {
                    try await queue.pause(
                        organization: pause.organization, priority: pause.priority, epoch: epoch)
                }
                for pause in present.subtracting(wanted) {
                    try await queue.resume(
                        organization: pause.organization, priority: pause.priority, epoch: epoch)
                }
            }
        }
    }

    private func write(_ limits: OrganizationLimits) async throws {
        let id = limits.organization
        let part = front.part(of: id)
        let queue = part.queue
        try await part.call { epoch in
            try await queue.weigh(organization: id, weight: limits.weight, epoch: epoch)
            try await queue.cap(organization: id, limit: limits.cap, epoch: epoch)
            try await queue.limitInteractive(
                organization: id, rate: limits.interactiveRate, burst: limits.interactiveBurst, epoch: epoch)
        }
    }

    private static let pageMax = 256
    // Nobody changes an organization so often while one call lasts; the next comparison finds the rest.
    private static let triesMax = 8
}

extension OrganizationLimits {
    /// What an organization has of which nothing else is said.
    fileprivate static func standard(of organization: OrganizationID) -> OrganizationLimits {
        OrganizationLimits(
            organization: organization, weight: 1, cap: nil, interactiveRate: nil, interactiveBurst: nil)
    }

    fileprivate init(_ found: Entitlement) {
        self.init(
            organization: found.organization, weight: found.weight, cap: found.cap,
            interactiveRate: found.interactiveRate, interactiveBurst: found.interactiveBurst)
    }
}

extension Pause {
    /// What a pause of whole queues is in Redis.
    init(_ scope: QueueScope) { self.init(organization: scope.organization, priority: scope.priority) }
}
