import Testing

@testable import Postgres

@Suite struct MachineTests {
    private func key(_ text: String) -> StatementKey { StatementKey(text: text, types: []) }

    @Test("a statement is prepared once, and used by name elsewhere only when the server has confirmed it")
    func confirmation() throws {
        var cache = StatementCache()
        guard case .prepare(let name) = cache.use(key("a"), batch: 1) else { throw Missing() }
        #expect(cache.use(key("a"), batch: 1) == .prepared(name))
        #expect(cache.use(key("a"), batch: 2) == .once)
        cache.confirm(key("a"))
        #expect(cache.use(key("a"), batch: 2) == .prepared(name))
        #expect(cache.use(StatementKey(text: "a", types: [.int8]), batch: 2) != .prepared(name))
    }

    @Test("a statement that failed to be prepared is prepared anew, without deallocating it")
    func failedPreparation() {
        var cache = StatementCache()
        _ = cache.use(key("a"), batch: 1)
        #expect(cache.forget(key("a")) == nil)
        if case .prepare = cache.use(key("a"), batch: 2) {} else { Issue.record("expected to prepare") }
    }

    @Test("the least recently used statement leaves when there is one too many")
    func eviction() {
        var cache = StatementCache(capacity: 2)
        var names: [String: String] = [:]
        for text in ["a", "b", "a", "c"] {
            if case .prepare(let name) = cache.use(key(text), batch: 1) { names[text] = name }
            cache.confirm(key(text))
        }
        #expect(cache.evict() == names["b"])
        #expect(cache.evict() == nil)
        #expect(cache.use(key("a"), batch: 2) == .prepared(names["a"] ?? ""))
    }

    @Test("a connection keeps 512 prepared statements and deallocates the rest")
    func evictionOnServer() async throws {
        try await TestServer.withPool { pool, _ in
            for count in 1...520 {
                try await pool.execute(
                    "SELECT \(fragment: .joined(Array(repeating: "\(1)", count: count)))", scope: .none)
            }
            let counts = try await pool.query("SELECT count(*) FROM pg_prepared_statements", scope: .none) {
                try $0.decode(Int.self)
            }
            #expect(counts[0] == 512 || counts[0] == 513)  // with or without the one that counts
        }
    }

    @Test(
        "members of a group share their settings if scope and limit are the same to the second",
        arguments: [
            (29_400, 29_990, true), (29_400, 30_010, false), (2_000, 2_400, false), (1_500, 1_501, false),
            (0, 1, true), (1_999, 1_999, true),
        ])
    func settings(_ one: Int, _ other: Int, _ areEqual: Bool) {
        let first = Settings(scope: .platform, actor: nil, left: .milliseconds(one))
        #expect((first == Settings(scope: .platform, actor: nil, left: .milliseconds(other))) == areEqual)
        #expect(first != Settings(scope: .none, actor: nil, left: .milliseconds(one)))
        #expect(first.milliseconds >= max(one, 1) && first.milliseconds < max(one, 1) + 1_000)
    }

    @Test("the wait before the next attempt to connect stays under a bound that doubles up to 5 s")
    func backoff() {
        var backoff = Backoff()
        for bound in [50, 100, 200, 400, 800, 1_600, 3_200, 5_000, 5_000] {
            let wait = backoff.next()
            #expect(wait >= .zero && wait <= .milliseconds(bound))
        }
        backoff.reset()
        #expect(backoff.next() <= .milliseconds(50))
    }

    @Test(
        "what is transient follows from SQLSTATE and code",
        arguments: [
            ("40001", true), ("40P01", true), ("08006", true), ("53300", true), ("57P01", true),
            ("57P03", true),
            ("55P03", true), ("23505", false), ("42601", false), ("25P02", false),
        ])
    func transient(state: String, isTransient: Bool) {
        #expect(PostgresError(.server(state), "", sqlState: state).isTransient == isTransient)
    }
}
