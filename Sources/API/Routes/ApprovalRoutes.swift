import Access
import Domain
import HTTPTypes
import Ledger
import Wire

/// The query of the list of approvals.
struct ApprovalQuery: WireObject {
    var page: PageQuery
    var state: ApprovalState?

    init(from reader: inout FieldReader) throws(FieldError) {
        state = try reader.optional("state")
        page = try PageQuery(from: &reader)
    }

    func fields(to writer: inout JSONWriter) {
        writer.field("state", state)
        page.fields(to: &writer)
    }
}

extension Handlers {
    var approvalRoutes: [Route] {
        [
            .get(
                "/v1/approvals", "Lists what waits or waited for a second person, newest first",
                .permitted(.jobsRead)
            ) { (call: Call, query: ApprovalQuery) in
                let rows = try await ledger.approvals(
                    state: query.state, before: query.page.cursor.map { ApprovalID($0.last) },
                    limit: query.page.request.limit, scope: call.scope)
                return query.page.page(rows, id: \.id.value) { Approval(listed: $0) }
            },
            .get(
                "/v1/approvals/{id}", "Shows what waits for a second person, as it was sent",
                .permitted(.jobsRead)
            ) { call in
                try Approval(await approvals.shown(call.id(), to: call.principal))
            },
            .post(
                "/v1/approvals/{id}/approve",
                "Approves as a second person, with a fresh second factor; it is submitted when this answers",
                .permitted(.jobsApprove), status: .ok, respond: approve
            ).refusing(
                .conflict, .uniqueConflict, .draining, .quotaExceeded, .overloaded, .stepUpRequired,
                .confirmationRequired),
            .post(
                "/v1/approvals/{id}/reject", "Rejects what waits for a second person",
                .permitted(.jobsApprove), status: .ok
            ) { call in
                try Approval(await approvals.reject(call.id(), by: call.principal))
            }.refusing(.conflict),
        ]
    }
}

extension Approval {
    /// A row of approvals, but for what was sent.
    init(listed row: ApprovalRow) {
        self.init(
            id: row.id, place: Place(row.place), kind: row.kind, state: row.state, devices: row.devices,
            askedBy: row.askedBy, createdAt: row.createdAt, expiresAt: row.expiresAt)
        retryOf = row.subject
        (decidedBy, decidedAt) = (row.decidedBy, row.decidedAt)
        (jobId, refusal) = (row.job, row.refusal)
    }

    /// A row of approvals.
    init(_ row: ApprovalRow) throws {
        self.init(listed: row)
        // A retry is asked for without a body.
        if !row.body.isEmpty { submission = try JSONValue(scanning: row.body) }
    }
}
