/// What goes beyond the base of the agents' protocol, agreed on before the first message: the request of a
/// connection offers what the agent knows, the answer names what of it the gateway knows too, and that is
/// in force on both ends. Fields of a feature that is not in force are not sent, for what is not known is
/// refused.
package struct Features: OptionSet, Sendable, Hashable {
    /// A bit for each.
    package let rawValue: UInt8

    /// Those whose bits are set.
    package init(rawValue: UInt8) { self.rawValue = rawValue }

    /// Traces in what is said of attempts.
    package static let traces = Features(rawValue: 1 << 0)
    /// Values of secrets in dispatches.
    package static let secrets = Features(rawValue: 1 << 1)
    /// Both ends say what time they have.
    package static let clock = Features(rawValue: 1 << 2)
    /// The welcome says what the gateway takes.
    package static let limits = Features(rawValue: 1 << 3)

    /// Statements that are newer come as soon as there are any, and not with the next welcome.
    package static let statements = Features(rawValue: 1 << 4)

    /// An agent may ask for another certificate.
    package static let renewal = Features(rawValue: 1 << 5)

    /// All that this end knows.
    package static let known: Features = [.traces, .secrets, .clock, .limits, .statements, .renewal]

    /// The header of both heads.
    package static let header = "CloudRMM-Features"
    /// Bytes of the header that are read; what stands behind is overlooked, as unknown words are.
    package static let headerBytesMax = 1_024

    private static let names: [(String, Features)] = [
        ("traces", .traces), ("secrets", .secrets), ("clock", .clock), ("limits", .limits),
        ("statements", .statements), ("renewal", .renewal),
    ]

    /// The features that a header's values name; words that are not known are overlooked.
    package init(header values: some Sequence<some StringProtocol>) {
        self = []
        for value in values {
            for word in value.utf8.prefix(Self.headerBytesMax).split(separator: UInt8(ascii: ",")) {
                let word = word.split(separator: UInt8(ascii: " "))
                guard word.count == 1 else { continue }
                for (name, feature) in Self.names where word[0].elementsEqual(name.utf8) { insert(feature) }
            }
        }
    }

    /// The header's value: words between commas, empty for none.
    package var header: String {
        Self.names.filter { contains($0.1) }.map(\.0).joined(separator: ", ")
    }
}
