package import Domain

/// Body that has an organization or a partner erased.
package struct NewErasure: WireObject, Equatable {
    /// What it is called, exactly.
    package var name: String

    /// An erasure of what is called so.
    package init(name: String) { self.name = name }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        name = try reader.field("name", String.self, .in(Limits.nameBytes))
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) { writer.field("name", name) }
}

/// What an erasure takes, or how far it has gone.
package struct Erasure: WireObject, Equatable {
    /// The organization or the partner.
    package var id: ID<Subject.Tenant>
    package var name: String
    /// Whether it is archived, as it has to be; and when all of it was exported as it is now, if it was.
    package var archived: Bool
    package var exportedAt: Instant?
    /// Who asked for it to be erased, and when, if somebody did.
    package var askedBy: PrincipalID?
    package var askedAt: Instant?
    /// How many rows it has, or had when it was asked for, by table, at most a million of each; and how many
    /// are gone.
    package var rows: [String: Int]
    package var removed: Int

    /// What an erasure takes.
    package init(
        id: ID<Subject.Tenant>, name: String, archived: Bool, exportedAt: Instant? = nil,
        askedBy: PrincipalID? = nil, askedAt: Instant? = nil, rows: [String: Int], removed: Int = 0
    ) {
        self.id = id
        self.name = name
        self.archived = archived
        self.exportedAt = exportedAt
        self.askedBy = askedBy
        self.askedAt = askedAt
        self.rows = rows
        self.removed = removed
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        id = try reader.field("id")
        name = try reader.field("name")
        archived = try reader.field("archived")
        exportedAt = try reader.optional("exportedAt")
        askedBy = try reader.optional("askedBy")
        askedAt = try reader.optional("askedAt")
        rows = try reader.field("rows")
        removed = try reader.field("removed")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("id", id)
        writer.field("name", name)
        writer.field("archived", archived)
        writer.field("exportedAt", exportedAt)
        writer.field("askedBy", askedBy)
        writer.field("askedAt", askedAt)
        writer.field("rows", rows)
        writer.field("removed", removed)
    }
}
