/// On whose behalf statements run: the value of the setting `crmm.actor`, which the triggers of the audit log
/// read.
///
/// Bound to a task, so that every statement of a request says who asked for it without being told at each
/// call. The driver sets it with the scope, in the same transaction; without one nothing is set, and the
/// setting is empty: transactions never see the actor of another.
package struct Actor: Sendable, Hashable {
    /// The setting's value.
    package let setting: String

    /// The longest setting, in bytes.
    package static let bytesMax = 512

    /// The actor of the present task.
    @TaskLocal package static var current: Actor?

    /// An actor of printable ASCII without quotes and backslashes, at most ``bytesMax`` bytes; `nil` for
    /// other text.
    package init?(setting: String) {
        guard (1...Self.bytesMax).contains(setting.utf8.count), isPlain(setting) else { return nil }
        self.setting = setting
    }
}

/// Whether a setting's value is printable ASCII without quotes and backslashes.
func isPlain(_ setting: String) -> Bool {
    setting.utf8.allSatisfy {
        (0x20...0x7E).contains($0) && $0 != UInt8(ascii: "'") && $0 != UInt8(ascii: "\\")
            && $0 != UInt8(ascii: "\"")
    }
}
