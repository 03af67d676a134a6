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
                "Shows how many interactive runs of an organization go before its standard ones",
                .permitted(.queuesRead)
            ) { call in
                try await controls.interactive(of: call.id(), level: call.level).resolved
            },
            .put(
                "/v1/queues/{id}/interactive",
                "Sets how many interactive runs of an organization go before its standard ones",
                .permitted(.queuesWrite)
            ) { (call: Call, new: InteractiveBucket) in
                try await controls.limitInteractive(call.id(), new, level: call.level).resolved
            },
        ]
    }
}
