package import Domain
package import Wire

extension APIClient {
    /// One page of what waits or waited for a second person, newest first, optionally of one state.
    package func approvals(
        state: ApprovalState? = nil, _ page: PageOptions = PageOptions()
    ) async throws -> Page<Approval> {
        try await get("/v1/approvals", [("state", state?.name)] + page.parameters)
    }

    /// One of them, as it was sent.
    package func approval(_ id: ApprovalID) async throws -> Approval { try await get("/v1/approvals/\(id)") }

    /// Approves one as a second person.
    package func approve(_ id: ApprovalID) async throws -> Approval {
        try await post("/v1/approvals/\(id)/approve")
    }

    /// Rejects one.
    package func reject(_ id: ApprovalID) async throws -> Approval {
        try await post("/v1/approvals/\(id)/reject")
    }
}

/// What was submitted waits for a second person.
package struct AwaitingApproval: Error, Equatable {
    /// What waits.
    package let approval: PendingApproval
}

extension Submitted {
    /// The job; throws what waits where there is none yet.
    var job: AcceptedJob {
        get throws(AwaitingApproval) {
            switch self {
            case .job(let job): return job
            case .approval(let approval): throw AwaitingApproval(approval: approval)
            }
        }
    }
}
