import Access
import Domain
import Engine
import HTTPTypes
import Wire

extension Handlers {
    var interactiveRoutes: [Route] {
        [
            .get(
                "/v1/queues/{id}/interactive",
                "Shows how many interactive runs of an organization go before its standard ones", .queuesRead
            ) { call in
                try await controls.interactive(of: call.id(), level: call.principal.level).resolved
            },
            .put(
                "/v1/queues/{id}/interactive",
                "Sets how many interactive runs of an organization go before its standard ones", .queuesWrite
            ) { (call: Call, new: InteractiveBucket) in
                try await controls.limitInteractive(call.id(), new, level: call.principal.level).resolved
            },
        ]
    }
}
