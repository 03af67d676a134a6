package import Domain
package import Wire

extension APIClient {
    /// One page of the audit log, newest first.
    package func audit(
        log: ID<Subject.Tenant>? = nil, actor: PrincipalID? = nil, subject: ID<Subject.Tenant>? = nil,
        action: String? = nil, since: Instant? = nil, until: Instant? = nil,
        refused: Bool? = nil,
        _ page: PageOptions = PageOptions()
    ) async throws -> Page<AuditRecord> {
        try await get(
            "/v1/audit",
            [
                ("logId", log?.description), ("actorId", actor?.description),
                ("subjectId", subject?.description), ("action", action), ("since", since?.description),
                ("until", until?.description),
                ("refused", refused.map { $0 ? "true" : "false" }),
            ] + page.parameters)
    }
}
