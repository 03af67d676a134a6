/// Whose rows a request may see: the value of the setting `crmm.scope`, which the policies of row-level
/// security read.
///
/// The driver sets it whole before each request, in the same transaction, also to nothing for ``none``; so no
/// request ever runs in the scope of the one before it or beside it.
package struct Scope: Sendable, Hashable {
    /// The setting's value.
    package let setting: String
    /// Whether the value is printable ASCII without quotes and not over the limit; a request with another is
    /// refused.
    let isWellFormed: Bool

    /// The longest setting, in bytes.
    package static let bytesMax = 64 << 10

    /// No scope: sees no tenant's rows.
    package static let none = Scope(setting: "")
    /// Every tenant's rows.
    package static let platform = Scope(setting: "platform")

    /// A scope as the policies spell it; a request with one that is not printable ASCII without quotes and
    /// backslashes, or over ``bytesMax``, is refused with code `configuration`.
    package init(setting: String) {
        self.setting = setting
        isWellFormed = setting.utf8.count <= Self.bytesMax && isPlain(setting)
    }
}
