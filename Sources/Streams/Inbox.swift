package import Domain
package import Redis

/// One entry of a gateway's inbox: all that one dispatch has for it.
package struct Letter: Sendable, Hashable {
    /// The incarnation it is for.
    package let gateway: GatewayID
    /// What it has to deliver.
    package let payload: [UInt8]

    /// A letter to a gateway.
    package init(gateway: GatewayID, payload: [UInt8]) {
        self.gateway = gateway
        self.payload = payload
    }
}

extension Queue {
    /// How long an inbox lives after the last letter or heartbeat.
    private static let inboxMilliseconds = 600_000

    /// Puts letters into their gateways' inboxes, in one pipeline; false for one whose inbox is full.
    package func deliver(_ letters: [Letter], max limit: Int = 10_000) async throws -> [Bool] {
        guard !letters.isEmpty else { return [] }
        let commands = letters.map { letter in
            RedisCommand(
                "FCALL", .string(keys.function("deliver")), 1, .string(keys.inbox(letter.gateway)),
                .int(limit),
                .int(Self.inboxMilliseconds), .bytes(letter.payload))
        }
        return try await connection.send(commands).map { result in
            switch result {
            case .success(let value): value.int == 1
            case .failure(let error): throw QueueError(error) ?? error as any Error
            }
        }
    }

    /// A gateway's heartbeat: it is alive for so many milliseconds from now. Returns whether it was alive
    /// until now. At the server's memory limit, which refuses `SET`, one that is alive stays so.
    @discardableResult
    package func beat(gateway: GatewayID, milliseconds: Int) async throws -> Bool {
        let alive = RedisArgument.string(keys.alive(gateway))
        let replies = try await connection.send([
            RedisCommand("PEXPIRE", alive, .int(milliseconds)),
            RedisCommand("SET", alive, "1", "PX", .int(milliseconds)),
            RedisCommand("PEXPIRE", .string(keys.inbox(gateway)), .int(Self.inboxMilliseconds)),
        ])
        let wasAlive = try replies[0].get().int == 1
        if case .failure(let error) = replies[1], !(wasAlive && error.serverCode == "OOM") { throw error }
        _ = try replies[2].get()
        return wasAlive
    }

    /// Which of these gateways have a living heartbeat. Those whose heartbeat lies on a node of a cluster
    /// that cannot be reached or does not answer within a second have none, for neither does their inbox.
    package func alive(_ gateways: [GatewayID]) async throws -> Set<GatewayID> {
        let (beating, _, failures) = try await heartbeats(of: gateways)
        if let failure = failures.first, failures.count == gateways.count { throw failure }
        return beating
    }

    /// Which of these gateways have none, by the word of a server.
    package func dead(_ gateways: [GatewayID]) async throws -> Set<GatewayID> {
        try await heartbeats(of: gateways).lapsed
    }

    private func heartbeats(
        of gateways: [GatewayID]
    ) async throws -> (beating: Set<GatewayID>, lapsed: Set<GatewayID>, failures: [RedisError]) {
        guard !gateways.isEmpty else { return ([], [], []) }
        let replies = try await connection.send(
            gateways.map { RedisCommand("EXISTS", .string(keys.alive($0))) }, timeout: .seconds(1))
        var (beating, lapsed, failures) = (Set<GatewayID>(), Set<GatewayID>(), [RedisError]())
        for (gateway, reply) in zip(gateways, replies) {
            switch reply {
            case .success(let value) where value.int == 1: beating.insert(gateway)
            case .success: lapsed.insert(gateway)
            case .failure(let error) where error.code == .connection || error.code == .timeout:
                failures.append(error)
            case .failure(let error): throw error
            }
        }
        return (beating, lapsed, failures)
    }

    /// Letters after the one with the given id ("0" for all), oldest first; waits up to `wait` for the first.
    package func inbox(
        gateway: GatewayID, after id: String, count: Int, wait: Duration, on blocking: RedisBlockingConnection
    ) async throws -> [(id: String, payload: [UInt8])] {
        let command = RedisCommand(
            "XREAD", "COUNT", .int(count), "BLOCK", .int(max(1, wait.milliseconds)), "STREAMS",
            .string(keys.inbox(gateway)), .string(id))
        let reply = try await blocking.send(command, timeout: wait + Self.grace)
        let entries = reply.array?.first?.array?.last?.array ?? []
        return entries.compactMap { entry in
            guard let parts = entry.array, let id = parts.first?.text,
                case .string(let payload)? = parts.last?.array?.last
            else { return nil }
            return (id, payload)
        }
    }

    /// Removes letters that were delivered.
    package func discard(gateway: GatewayID, _ ids: [String]) async throws {
        guard !ids.isEmpty else { return }
        let arguments: [RedisArgument] = [.string(keys.inbox(gateway))] + ids.map { .string($0) }
        _ = try await send(RedisCommand("XDEL", arguments: arguments))
    }

    /// Takes everything out of the inbox of a gateway that is dead, and deletes it.
    package func drain(gateway: GatewayID) async throws -> [[UInt8]] {
        var payloads: [[UInt8]] = []
        while true {
            let drain = RedisCommand(
                "FCALL", .string(keys.function("drain")), 1, .string(keys.inbox(gateway)),
                .int(Self.runsPerCall))
            let page = try await send(drain).elements()
            for case .string(let payload) in page { payloads.append(payload) }
            if page.count < Self.runsPerCall { return payloads }
        }
    }

    /// Waits until there may be something to claim; false after the time limit (at most 1 s), when a claim is
    /// due anyway.
    package func waitForBell(on blocking: RedisBlockingConnection, timeout: Duration = .seconds(1))
        async throws -> Bool
    {
        let wait = min(timeout, .seconds(1))
        let seconds = Double(max(1, wait.milliseconds)) / 1_000
        let reply = try await blocking.send(
            RedisCommand("BLPOP", .string(keys.key("bell")), .double(seconds)), timeout: wait + Self.grace)
        return reply != .null
    }

    /// What a blocking call may take beyond its own time.
    private static let grace: Duration = .seconds(5)
}

extension Duration {
    fileprivate var milliseconds: Int {
        Int(components.seconds) * 1_000 + Int(components.attoseconds / 1_000_000_000_000_000)
    }
}
