import Access
import Engine
import Wire

extension Handlers {
    var quotaRoutes: [Route] {
        [
            .get(
                "/v1/queues/{id}/quota", "Shows what an organization has open, and how much it may",
                .permitted(.queuesRead)
            ) { call in
                try await controls.quota(of: call.id(), level: call.level)
            },
            .put(
                "/v1/queues/{id}/quota", "Sets how much an organization may have open, or the defaults",
                .permitted(.queuesWeigh)
            ) { (call: Call, new: NewQuota) in
                let principal = try call.principal
                return try await controls.setQuota(
                    new, of: call.id(), by: principal.id, level: call.level)
            },
        ]
    }
}
