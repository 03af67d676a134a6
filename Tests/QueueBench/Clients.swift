import Domain
import Postgres
import Redis

/// The clients of Redis and PostgreSQL alone.
extension Measure {
    /// Durable one-row inserts by so many callers, who share the pool's four connections.
    func insert() async throws {
        let (count, callers) = (value("rows", 100_000), value("callers", 1_000))
        try await bed.owner.execute(
            "CREATE TABLE IF NOT EXISTS bench_rows (id bigserial PRIMARY KEY, body text)", scope: .none)
        try await bed.owner.execute("TRUNCATE bench_rows", scope: .none)
        let body = String(repeating: "x", count: 100)
        let took = try await calls(count, callers: callers) { _ in
            _ = try await bed.owner.grouped("INSERT INTO bench_rows (body) VALUES (\(body))", scope: .none) {
                _ in
            }
        }
        say(["rowsPerSecond": Double(count) / took])
    }

    /// XADD of 100 bytes by so many callers, who share one connection.
    func append() async throws {
        let (count, callers) = (value("entries", 300_000), value("callers", 1_000))
        let body = [UInt8](repeating: 0x78, count: 100)
        let took = try await calls(count, callers: callers) { _ in
            _ = try await bed.redis.send(
                RedisCommand("XADD", "bench", "MAXLEN", "~", 10_000, "*", "p", .bytes(body)))
        }
        _ = try await bed.redis.send(RedisCommand("DEL", "bench"))
        say(["entriesPerSecond": Double(count) / took])
    }

    /// Makes so many calls from so many callers at a time; returns the seconds that they took.
    func calls(
        _ count: Int, callers: Int, _ call: @escaping @Sendable (Int) async throws -> Void
    ) async throws -> Double {
        let next = Turnstile()
        return try await seconds {
            try await withThrowingTaskGroup(of: Void.self) { group in
                for _ in 0..<callers {
                    group.addTask {
                        while true {
                            let number = next.pass()
                            guard number < count else { return }
                            try await call(number)
                        }
                    }
                }
                try await group.waitForAll()
            }
        }
    }
}
