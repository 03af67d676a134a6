/// Body that sets how much an organization may have open; each of them absent for the default.
package struct NewQuota: WireObject, Equatable {
    /// The most open runs.
    package var openRuns: Int?
    /// The most bytes of statements and lists of devices of open jobs.
    package var openBytes: Int?

    /// A quota.
    package init(openRuns: Int? = nil, openBytes: Int? = nil) {
        self.openRuns = openRuns
        self.openBytes = openBytes
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        openRuns = try reader.optional("openRuns", Int.self, .in(Limits.openRuns))
        openBytes = try reader.optional("openBytes", Int.self, .in(Limits.openBytes))
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("openRuns", openRuns)
        writer.field("openBytes", openBytes)
    }
}

/// What an organization has open, and how much it may. What runs have freed in the last two seconds may count
/// still.
package struct QueueQuota: WireObject, Equatable {
    /// Runs that have not ended.
    package var openRuns: QuotaUse
    /// Bytes of statements and lists of devices of jobs that have not ended.
    package var openBytes: QuotaUse

    /// A quota as it is shown.
    package init(openRuns: QuotaUse, openBytes: QuotaUse) {
        self.openRuns = openRuns
        self.openBytes = openBytes
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        openRuns = try reader.field("openRuns")
        openBytes = try reader.field("openBytes")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("openRuns", openRuns)
        writer.field("openBytes", openBytes)
    }
}

/// How much of something there is, and may be.
package struct QuotaUse: WireObject, Equatable {
    /// What there is now.
    package var used: Int
    /// What there may be, and whether that is the default.
    package var limit: Int
    package var isDefault: Bool

    /// A use of a quota.
    package init(used: Int, limit: Int, isDefault: Bool) {
        self.used = used
        self.limit = limit
        self.isDefault = isDefault
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        used = try reader.field("used")
        limit = try reader.field("limit")
        isDefault = try reader.field("isDefault")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("used", used)
        writer.field("limit", limit)
        writer.field("isDefault", isDefault)
    }
}
