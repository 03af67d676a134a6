package import Domain

/// An entry of the audit log, as shown.
package struct AuditRecord: WireObject, Equatable {
    /// Its id, and when it was written.
    package var id: AuditEntryID
    package var at: Instant
    /// Whose log it stands in; none is the platform's.
    package var logId: ID<Subject.Tenant>
    /// `platform`, `key`, `user`, `unknown` or `database`, and which.
    package var actor: String
    package var actorId: PrincipalID?
    /// From where, and by which request.
    package var address: String?
    package var requestId: RequestID?
    /// `table.verb` of a change, `METHOD path` of a refused attempt.
    package var action: String
    package var subjectId: ID<Subject.Tenant>?
    /// Whether it was refused.
    package var refused: Bool
    /// The row before and after; of a refusal, its code as `after`.
    package var before: String?
    package var after: String?
    /// Its place in the chain of its log; absent until it is sealed, about a second.
    package var position: Int?

    /// An entry as shown.
    package init(
        id: AuditEntryID, at: Instant, logId: UniqueID, actor: String, actorId: PrincipalID?,
        address: String?, requestId: RequestID?, action: String, subjectId: UniqueID?, refused: Bool,
        before: String?, after: String?, position: Int?
    ) {
        self.id = id
        self.at = at
        self.logId = ID(logId)
        self.actor = actor
        self.actorId = actorId
        self.address = address
        self.requestId = requestId
        self.action = action
        self.subjectId = subjectId.map { ID($0) }
        self.refused = refused
        self.before = before
        self.after = after
        self.position = position
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        id = try reader.field("id")
        at = try reader.field("at")
        logId = try reader.field("logId")
        actor = try reader.field("actor")
        actorId = try reader.optional("actorId")
        address = try reader.optional("address")
        requestId = try reader.optional("requestId")
        action = try reader.field("action")
        subjectId = try reader.optional("subjectId")
        refused = try reader.field("refused")
        before = try reader.optional("before")
        after = try reader.optional("after")
        position = try reader.optional("position")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("id", id)
        writer.field("at", at)
        writer.field("logId", logId)
        writer.field("actor", actor)
        writer.field("actorId", actorId)
        writer.field("address", address)
        writer.field("requestId", requestId)
        writer.field("action", action)
        writer.field("subjectId", subjectId)
        writer.field("refused", refused)
        writer.field("before", before)
        writer.field("after", after)
        writer.field("position", position)
    }
}
