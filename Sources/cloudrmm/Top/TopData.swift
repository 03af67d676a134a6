import Domain
import Wire

/// One organization in the live view: its queues together.
struct TopRow: Equatable {
    let organization: OrganizationID
    /// Without anything that could steer a terminal.
    var name: String
    var depth = 0
    /// Whether it was counted to its end.
    var isExact = true
    var oldestSeconds: Double?
    var waiting = 0
    var running = 0
    var cap: Int?
    var weight = 1.0
    var share: Double?
    var entitlement: Double?
    var drainRate = 0.0
    /// What holds it back: its own controls and those of all.
    var controls: [QueueControl] = []

    /// In one word what holds it back.
    var state: String {
        func has(_ mode: ControlMode, whole: Bool) -> Bool {
            controls.contains { $0.mode == mode && (($0.kind == nil && $0.priority == nil) == whole) }
        }
        if has(.pause, whole: true) { return "paused" }
        if has(.drain, whole: true) { return "drain" }
        return has(.pause, whole: false) || has(.drain, whole: false) ? "partly" : ""
    }

    /// Whether it is paused as a whole by a control of its own.
    var isPaused: Bool {
        controls.contains {
            $0.mode == .pause && $0.organizationId != nil && $0.kind == nil && $0.priority == nil
        }
    }
}

/// What one look at the API brought.
struct TopData: Equatable {
    var rows: [TopRow] = []
    /// The pause or drain of everything, if one is in force.
    var everything: QueueControl?
    /// Whether there are more organizations than were read.
    var isCut = false

    init() {}

    /// Rows of queues, by organization.
    init(
        _ queues: [QueueStatus], names: [OrganizationID: String], controls: [QueueControl], isCut: Bool
    ) {
        self.isCut = isCut
        everything = controls.first { $0.scope.isEverything }
        var places: [OrganizationID: Int] = [:]
        for queue in queues {
            let id = queue.organizationId
            let at = places[id] ?? rows.count
            if places[id] == nil {
                places[id] = at
                rows.append(TopRow(organization: id, name: Terminal.harmless(names[id] ?? id.description)))
            }
            rows[at].depth += queue.depth
            rows[at].isExact = rows[at].isExact && queue.exact
            rows[at].waiting += queue.waiting
            rows[at].running += queue.running
            rows[at].oldestSeconds = [rows[at].oldestSeconds, queue.oldestAgeSeconds].compactMap(\.self).max()
            (rows[at].cap, rows[at].weight) = (queue.cap, queue.weight)
            (rows[at].share, rows[at].entitlement) = (queue.share, queue.entitlement)
            rows[at].drainRate = queue.drainRate ?? 0
        }
        for control in controls {
            guard let id = control.organizationId else {
                for at in rows.indices { rows[at].controls.append(control) }
                continue
            }
            if let at = places[id] { rows[at].controls.append(control) }
        }
    }
}
