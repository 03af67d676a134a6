import Access
import Domain
import Ledger
import Wire

extension Handlers {
    var guardRoutes: [Route] {
        [
            .get(
                "/v1/partners/{id}/guard", "Shows how far one act of a partner may reach without more ado",
                .permitted(.guardsRead)
            ) { call in
                PartnerGuard(try await authenticator.guards.shown(call.id(), to: call.principal))
            }.refusing(.alteredRow),
            .patch(
                "/v1/partners/{id}/guard",
                "Sets how far one act of a partner may reach; a person loosens it with a fresh second factor",
                .permitted(.guardsWrite)
            ) { (call: Call, changes: NewGuardChanges) in
                let words = try changes.stepUpPermissions.map {
                    try Permission.set($0, field: "stepUpPermissions")
                }
                let row = try await authenticator.guards.edit(
                    call.id(), version: call.version, by: call.principal
                ) { rules in
                    rules.confirmAbove = changes.confirmAbove ?? rules.confirmAbove
                    rules.approveAbove = changes.approveAbove.applied(to: rules.approveAbove)
                    rules.stepUpPermissions =
                        words.map { Set($0.map(\.rawValue)) } ?? rules.stepUpPermissions
                    rules.stepUpSeconds = changes.stepUpSeconds ?? rules.stepUpSeconds
                }
                return PartnerGuard(row)
            }.refusing(.conflict),
        ]
    }
}

extension PartnerGuard {
    /// A row of guards.
    init(_ row: GuardRow) {
        self.init(
            partnerId: row.partner, confirmAbove: row.rules.confirmAbove,
            approveAbove: row.rules.approveAbove,
            stepUpPermissions: row.rules.stepUpPermissions.sorted(), stepUpSeconds: row.rules.stepUpSeconds,
            version: row.version, updatedAt: row.updatedAt)
    }
}
