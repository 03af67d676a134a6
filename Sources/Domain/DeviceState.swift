/// Whether a device may hold a session.
package enum DeviceState: Int16, Sendable, Hashable, CaseIterable {
    /// May; somebody suspends or archives it.
    case active = 0
    /// May not, and its work waits; somebody brings it back.
    case suspended = 1
    /// May not, and gets no new work; somebody brings it back, or it is erased.
    case archived = 2

    /// The state's name on the wire.
    package var name: String {
        switch self {
        case .active: "active"
        case .suspended: "suspended"
        case .archived: "archived"
        }
    }
}
