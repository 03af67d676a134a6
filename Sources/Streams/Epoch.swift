/// The identity of one data set in Redis. Each rebuild begins another; a call that names an old one is
/// refused.
package struct Epoch: Sendable, Hashable, CustomStringConvertible {
    /// The identity as it stands in Redis and in PostgreSQL.
    package let id: String

    /// The epoch of stored text.
    package init(_ id: String) { self.id = id }

    /// A new epoch, unlike all others.
    package static func fresh() -> Epoch {
        Epoch((0..<2).map { _ in String(UInt64.random(in: .min ... .max), radix: 36) }.joined())
    }

    /// The identity.
    package var description: String { id }
}
