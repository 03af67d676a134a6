import Access
import Domain
import Engine
import Ledger
import Wire

extension Handlers {
    var enrollmentRoutes: [Route] {
        [
            .post(
                "/v1/enrollment-tokens", "Makes an enrolment token; its text is shown only here",
                .permitted(.enrollmentTokensWrite)
            ) { (call: Call, new: NewEnrollmentToken) in
                let principal = try call.principal
                return try await enroller.createToken(new, by: principal.id, level: call.level)
            }.refusing(.conflict),
            .get(
                "/v1/enrollment-tokens", "Lists enrolment tokens, but for their texts",
                .permitted(.enrollmentTokensRead)
            ) { (call: Call, query: EnrollmentTokenQuery) in
                query.sorted.page.page(
                    try await ledger.enrollmentTokens(
                        organization: query.organizationId, site: query.siteId, query.sorted.request,
                        scope: call.scope), id: \.id.value, EnrollmentToken.init)
            },
            .get(
                "/v1/enrollment-tokens/{id}", "Shows an enrolment token, but for its text",
                .permitted(.enrollmentTokensRead)
            ) { call in
                EnrollmentToken(try found(await ledger.enrollmentToken(call.id(), scope: call.scope)))
            },
            .delete(
                "/v1/enrollment-tokens/{id}",
                "Revokes an enrolment token; devices that enrolled with it stay",
                .permitted(.enrollmentTokensWrite), takesIfMatch: false
            ) { call in
                try await authenticator.revokeEnrollmentToken(call.id(), level: call.level)
            },
            // Anyone may ask, so what is read for it is small.
            .post(
                "/v1/enrollments", "Enrols a device; the token is the credential", .anyone,
                bytesMax: Limits.enrollmentBodyBytesMax
            ) { (_: Call, new: NewEnrollment) in
                try await enroller.enroll(new)
            }.refusing(.expiredToken, .conflict, .archived, .alteredRow, .overloaded),
        ]
    }
}

extension EnrollmentToken {
    /// A row of tokens.
    init(_ row: EnrollmentTokenRow) {
        self.init(
            id: row.id, organizationId: row.organization, siteId: row.site, expiresAt: row.expiresAt,
            revokedAt: row.revokedAt, maxUses: row.usesMax, uses: row.uses, createdBy: row.createdBy,
            createdAt: row.createdAt)
    }
}
