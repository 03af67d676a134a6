/// How many interactive runs of an organization go before its standard ones; the others are served as
/// standard ones are. Setting it replaces both numbers, an absent one by the default.
package struct InteractiveBucket: WireObject, Equatable {
    /// Runs a minute in the long run; the default is 600.
    package var perMinute: Double?
    /// Runs at once, after a time without any; the default is 100.
    package var burst: Int?

    /// A bucket.
    package init(perMinute: Double? = nil, burst: Int? = nil) {
        self.perMinute = perMinute
        self.burst = burst
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        perMinute = try reader.optional("perMinute")
        burst = try reader.optional("burst", Int.self, .in(Limits.interactiveBurst))
        let range = Limits.interactivePerMinute
        guard !reader.isRecording, let perMinute, !range.contains(perMinute) else { return }
        throw FieldError(
            .invalid, field: reader.name(of: "perMinute"),
            "is \(perMinute); allowed are \(range.lowerBound) to \(Int(range.upperBound))")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("perMinute", perMinute)
        writer.field("burst", burst)
    }

    /// What holds where nothing was set.
    package static let standard = InteractiveBucket(perMinute: 600, burst: 100)

    /// Both numbers, the default where none was set.
    package var resolved: InteractiveBucket {
        InteractiveBucket(
            perMinute: perMinute ?? Self.standard.perMinute, burst: burst ?? Self.standard.burst)
    }
}
