/// What a cluster says of its slots.
package struct RedisSlots: Sendable, Equatable {
    /// How many there are in every cluster.
    package static let all = ClusterMap.slotCount

    /// How many of them a master serves.
    package let served: Int
    /// Where the masters are that have no replica.
    package let mastersAlone: [String]

    /// Reads the answer of `CLUSTER SLOTS` of the node that was asked.
    init(_ reply: RedisValue, from asked: RedisConfiguration.Address) throws(RedisError) {
        let map = try ClusterMap(reply, from: asked)
        served = (0..<ClusterMap.slotCount).count { map.master(of: $0) != nil }
        // A range: its ends, the master, its replicas.
        let ends = (reply.array ?? []).filter { $0.array?.count == 3 }.compactMap { $0.array?[0].int }
        let alone = Set(ends.compactMap { map.master(of: $0) })
        mastersAlone = map.masters.filter(alone.contains).map(\.description)
    }
}

extension RedisConnection {
    /// How the slots of the cluster are served; nil of a server that is none.
    package func slots() async throws -> RedisSlots? {
        guard isOfCluster else { return nil }
        var failure: RedisError?
        for node in try await masters() {
            do {
                return try RedisSlots(
                    await node.send(RedisCommand("CLUSTER", "SLOTS")), from: node.address)
            } catch let error as RedisError {
                failure = error
            }
        }
        throw failure ?? RedisError(.connection, "no master of the cluster answers")
    }
}
