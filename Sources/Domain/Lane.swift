/// Work on one device that waits for one another: a hung script never blocks a ping.
package enum Lane: Int16, Sendable, CaseIterable {
    case interactive = 0
    case script = 1

    /// The lane of a kind of job.
    package init(_ kind: JobKind) {
        switch kind {
        case .script: self = .script
        case .ping, .sysinfo: self = .interactive
        }
    }
}
