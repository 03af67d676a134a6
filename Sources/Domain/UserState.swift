/// Whether a person may sign in.
package enum UserState: Int16, Sendable, Hashable, CaseIterable {
    /// Has not taken the invitation yet: leaves by taking it, or is disabled.
    case invited = 0
    /// May sign in; an administrator disables.
    case active = 1
    /// May not, and nothing that was made by this person works; an administrator enables.
    case disabled = 2

    /// The state's name on the wire.
    package var name: String {
        switch self {
        case .invited: "invited"
        case .active: "active"
        case .disabled: "disabled"
        }
    }
}
