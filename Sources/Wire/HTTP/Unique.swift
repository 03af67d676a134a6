package import Domain

/// Which other jobs a job must not stand beside.
package struct Unique: WireObject, Equatable {
    /// What names the same work.
    package var key: String
    /// Within what.
    package var scope: UniqueScope
    /// How far a job may be that keeps others out: `queued`, or `queued` and `running`. A job always holds
    /// its key while it is queued, else two could be submitted one after the other.
    package var states: [UniqueState]
    /// What becomes of a job whose key another holds.
    package var onConflict: UniqueConflict

    /// One of a key.
    package init(
        key: String, scope: UniqueScope = .organization, while states: [UniqueState] = UniqueState.allCases,
        onConflict: UniqueConflict = .reject
    ) {
        self.key = key
        self.scope = scope
        self.states = states
        self.onConflict = onConflict
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        key = try reader.field("key", String.self, .in(Limits.uniqueKeyBytes))
        scope = try reader.optional("scope") ?? .organization
        states = try reader.optional("while", [UniqueState].self, .in(1...2)) ?? UniqueState.allCases
        onConflict = try reader.optional("onConflict") ?? .reject
        guard !reader.isRecording else { return }
        guard Set(states).count == states.count, states.contains(.queued) else {
            throw FieldError(
                .invalid, field: reader.name(of: "while"),
                "must be [\"queued\"] or [\"queued\", \"running\"]")
        }
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("key", key)
        writer.field("scope", scope)
        writer.field("while", states)
        writer.field("onConflict", onConflict)
    }
}

extension UniqueScope: WireWord {
    /// Its raw value.
    package var word: String { rawValue }
}

extension UniqueConflict: WireWord {
    /// Its raw value.
    package var word: String { rawValue }
}

extension UniqueState: WireWord {
    /// Its raw value.
    package var word: String { rawValue }
}
