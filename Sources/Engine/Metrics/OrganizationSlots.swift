import Domain

/// Counts by organization under a bounded number of names: the most active ones have a slot each, all others
/// share one.
///
/// An organization's values begin when it gets a slot and end when it loses it; the shared ones are of events
/// whose organization had no slot then. So every value only rises while its name is there, and rates are
/// true. Slots are given anew once a minute: who was more than twice as active as the least active holder
/// takes its place.
struct OrganizationSlots<Value: Sendable>: Sendable {
    private struct Slot {
        var value: Value
        var activity = 0.0
    }

    private let limit: Int
    private let empty: Value
    private var slots: [OrganizationID: Slot] = [:]
    /// What those without a slot did.
    private(set) var others: Value
    private var candidates: [OrganizationID: Double] = [:]
    private var ranked: ContinuousClock.Instant

    /// Slots for so many organizations.
    init(limit: Int, empty: Value, now: ContinuousClock.Instant) {
        (self.limit, self.empty, others, ranked) = (limit, empty, empty, now)
    }

    /// Each holder's counts, by id.
    var holders: [(organization: OrganizationID, value: Value)] {
        slots.sorted { $0.key < $1.key }.map { ($0.key, $0.value.value) }
    }

    /// Counts an event of an organization.
    mutating func count(
        _ organization: OrganizationID, at now: ContinuousClock.Instant, _ change: (inout Value) -> Void
    ) {
        if now - ranked >= .seconds(60) { rank(at: now) }
        if slots[organization] == nil, slots.count < limit { slots[organization] = Slot(value: empty) }
        if let place = slots.index(forKey: organization) {
            change(&slots.values[place].value)
            slots.values[place].activity += 1
            return
        }
        change(&others)
        // Who is not noted because there are too many has another chance in a minute.
        if candidates[organization] != nil || candidates.count < Self.candidatesMax {
            candidates[organization, default: 0] += 1
        }
    }

    private mutating func rank(at now: ContinuousClock.Instant) {
        for (organization, activity) in candidates.sorted(by: { ($1.value, $0.key) < ($0.value, $1.key) }) {
            guard let least = slots.min(by: { ($0.value.activity, $0.key) < ($1.value.activity, $1.key) }),
                activity > 2 * least.value.activity
            else { break }
            slots[least.key] = nil
            slots[organization] = Slot(value: empty, activity: activity)
        }
        for organization in slots.keys { slots[organization]?.activity /= 2 }
        (candidates, ranked) = ([:], now)
    }

    private static var candidatesMax: Int { 1_024 }
}
