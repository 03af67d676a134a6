/// What a limit of running runs counts by.
package enum LimitScope: String, Sendable, CaseIterable {
    case job, site, kind, device, lane
}

/// One of the lanes that a run is in: the runs of the same job, site, kind, device, or device and lane.
package struct RunLane: Sendable, Hashable {
    /// What it counts by.
    package let scope: LimitScope
    /// Which of these: an id, a kind, or a device and its lane.
    package let key: String

    /// A lane.
    package init(_ scope: LimitScope, _ key: String) {
        self.scope = scope
        self.key = key
    }

    /// The lanes of a run, one of each scope, in the order of the scopes.
    package static func all(
        job: JobID, site: SiteID, kind: String, device: DeviceID, lane: Lane
    ) -> [RunLane] {
        LimitScope.allCases.map { scope in
            switch scope {
            case .job: RunLane(scope, "\(job)")
            case .site: RunLane(scope, "\(site)")
            case .kind: RunLane(scope, kind)
            case .device: RunLane(scope, "\(device)")
            case .lane: RunLane(scope, "\(device)/\(lane.rawValue)")
            }
        }
    }

    /// A word that no other lane of the organization has.
    package var name: String { "\(scope)=\(key)" }
}
