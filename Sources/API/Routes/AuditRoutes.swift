import Access
import Domain
import Ledger
import Wire

extension Handlers {
    var auditRoutes: [Route] {
        [
            .get(
                "/v1/audit", "Lists what was changed and what was refused, newest first",
                .permitted(.auditRead)
            ) { (call: Call, query: AuditQuery) in
                var filter = query.filter
                // An organization sees one log, which has an index of its own.
                if case .organization(let id) = try call.level { filter.chain = filter.chain ?? id.value }
                return query.page.page(
                    try await ledger.auditEntries(
                        filter, before: query.page.cursor?.last, limit: query.page.request.limit,
                        scope: call.scope), id: \.id.value, AuditRecord.init)
            }
        ]
    }
}

/// The query of the audit log.
struct AuditQuery: WireObject {
    var page: PageQuery
    /// Whose log: an organization's or a partner's id.
    var logId: ID<Subject.Tenant>?
    var actorId: PrincipalID?
    var subjectId: ID<Subject.Tenant>?
    /// How an action begins.
    var action: String?
    var since: Instant?
    var until: Instant?
    var refused: Bool?

    init(from reader: inout FieldReader) throws(FieldError) {
        logId = try reader.optional("logId")
        actorId = try reader.optional("actorId")
        subjectId = try reader.optional("subjectId")
        action = try reader.optional("action", String.self, .in(1...200))
        since = try reader.optional("since")
        until = try reader.optional("until")
        refused = try reader.optional("refused")
        page = try PageQuery(from: &reader)
    }

    func fields(to writer: inout JSONWriter) {
        writer.field("logId", logId)
        writer.field("actorId", actorId)
        writer.field("subjectId", subjectId)
        writer.field("action", action)
        writer.field("since", since)
        writer.field("until", until)
        writer.field("refused", refused)
        page.fields(to: &writer)
    }

    /// What the ledger asks.
    var filter: AuditFilter {
        var filter = AuditFilter()
        (filter.chain, filter.actor, filter.subject) = (logId?.value, actorId, subjectId?.value)
        (filter.action, filter.since, filter.until, filter.isRefused) = (action, since, until, refused)
        return filter
    }
}

extension AuditRecord {
    /// An entry.
    init(_ entry: AuditEntry) {
        let actor =
            switch entry.actorKind {
            case 0: "platform"
            case 1: "key"
            case 2: "user"
            case 4: "database"
            default: "unknown"
            }
        self.init(
            id: entry.id, at: entry.at, logId: entry.chain, actor: actor, actorId: entry.actor,
            address: entry.address, requestId: entry.request, action: entry.action, subjectId: entry.subject,
            refused: entry.isRefused, before: entry.before, after: entry.after, position: entry.position)
    }
}
