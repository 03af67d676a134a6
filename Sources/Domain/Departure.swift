/// How a device's session ended that nobody took over.
package enum Departure: Int16, Sendable, Hashable, CaseIterable {
    /// Nobody heard of its end: the connection was cut, the machine or its gateway died. Kept as nothing,
    /// since a gateway that dies writes no row.
    case vanished = 0
    /// The agent took leave: it was stopped, or its machine shut down.
    case left = 1
    /// The gateway closed it: it stopped itself, or the device may hold no session.
    case closed = 2

    /// The word on the wire.
    package var name: String {
        switch self {
        case .vanished: "vanished"
        case .left: "left"
        case .closed: "closed"
        }
    }
}
