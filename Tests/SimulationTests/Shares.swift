import Domain
import Streams

/// Who was served how much, against who had work all the while.
///
/// Start-time fair queueing promises: over any window in which `j` was in service from claim to claim, no
/// other organization `i` gets more than `j` by weight, but for a turn of each: S(i)/w(i) − S(j)/w(j) ≤
/// t(i) + t(j), where t(i) is the turn, or one run if that weighs more: max(t, 1/w(i)). That covers two that
/// are saturated, and one that comes and goes.
struct Shares {
    private var served: [OrganizationID: Double] = [:]
    private var inService: Set<OrganizationID> = []
    /// The least S(i)/w(i) − S(j)/w(j) since j has been in service; the key is j, then i.
    private var least: [OrganizationID: [OrganizationID: Double]] = [:]
    private var isOwing = false

    /// What one claim did.
    struct Claim {
        let served: [OrganizationID: Int]
        /// Who is in service after it, with tags; virtual time.
        let ready: [OrganizationID: Double]
        let virtual: Double
        let weights: [OrganizationID: Double]
        /// Whether it stopped before it had as many as it could: its rounds went to stale entries.
        let isExhausted: Bool
    }

    /// Begins all windows anew.
    mutating func reset() { (inService, least) = ([], [:]) }

    /// Begins those of one organization anew: its weight or its service has changed.
    mutating func reset(_ organization: OrganizationID, weighs: Bool) {
        inService.remove(organization)
        least[organization] = nil
        if weighs { for key in least.keys { least[key]?[organization] = nil } }
    }

    /// Takes a claim in; returns what is wrong.
    mutating func record(_ claim: Claim, of organizations: [OrganizationID]) -> String? {
        func weight(_ id: OrganizationID) -> Double { claim.weights[id] ?? 1 }
        for (id, count) in claim.served { served[id, default: 0] += Double(count) / weight(id) }
        if claim.isExhausted { isOwing = true }
        if isOwing {
            reset()
            isOwing = claim.ready.values.contains { $0 < claim.virtual - VirtualLibrary.first }
            return nil
        }
        var wrong: String?
        for j in organizations {
            guard claim.ready[j] != nil, inService.contains(j) else {
                least[j] = nil
                continue
            }
            for i in organizations where i != j {
                let difference = served[i, default: 0] - served[j, default: 0]
                let lowest = min(least[j]?[i] ?? difference, difference)
                least[j, default: [:]][i] = lowest
                let turn = Double(VirtualLibrary.turn)
                let bound = max(turn, 1 / weight(i)) + max(turn, 1 / weight(j))
                if difference - lowest > bound + 1e-6 {
                    wrong = "\(i) got \(difference - lowest) more by weight than \(j), which had work"
                }
            }
        }
        inService = Set(claim.ready.keys)
        // A window begins with the state after this claim.
        for j in inService where least[j] == nil {
            for i in organizations where i != j {
                least[j, default: [:]][i] = served[i, default: 0] - served[j, default: 0]
            }
        }
        return wrong
    }
}

/// What the lower priorities of an organization get while they wait: 15 of 100 runs of it for standard and 5
/// for bulk, but for one.
struct Guarantees {
    private var served: [OrganizationQueue: (own: Int, all: Int)] = [:]

    /// Takes a claim in; `waiting` are the queues that have entries after it. Returns what is wrong.
    mutating func record(_ claims: [Claim], waiting: Set<OrganizationQueue>) -> String? {
        for queue in served.keys where !waiting.contains(queue) { served[queue] = nil }
        for (queue, before) in served {
            let of = claims.filter { $0.organization == queue.organization }
            let now = (
                own: before.own + of.count { $0.priority == queue.priority }, all: before.all + of.count
            )
            served[queue] = now
            let hundredths =
                switch queue.priority {
                case .interactive: 0
                case .standard: 15
                case .bulk: 5
                }
            if now.own < now.all * hundredths / 100 - 1 {
                return
                    "\(queue.priority) of \(queue.organization) got \(now.own) of \(now.all)"
            }
        }
        for queue in waiting where served[queue] == nil { served[queue] = (0, 0) }
        return nil
    }
}
