import Testing

@testable import Postgres

@Suite struct ScopeTests {
    private func current(_ pool: PostgresPool, _ scope: Scope) async throws -> [String] {
        try await pool.query("SELECT current_setting('crmm.scope', true)", scope: scope) {
            try $0.decode(String.self)
        }
    }

    @Test("a request runs in its scope, and the next without one runs in none")
    func scopes() async throws {
        try await TestServer.withPool { pool, _ in
            let fresh = try await current(pool, .none)
            #expect(fresh == [""])
            #expect(try await current(pool, .platform) == ["platform"])
            #expect(try await current(pool, .none) == [""])
            let partner = Scope(setting: "partner:0190f5e0-0000-7000-8000-000000000001")
            #expect(try await current(pool, partner) == [partner.setting])
        }
    }

    @Test("a scope ends with its request, without BEGIN, also after an error")
    func ends() async throws {
        try await TestServer.withPool { pool, _ in
            _ = try await error { try await pool.execute("SELECT 1 / 0", scope: .platform) }
            #expect(try await current(pool, .none) == [""])
        }
    }

    @Test("a scope that a statement sets for the session does not reach the next request")
    func sessionSetting() async throws {
        try await TestServer.withPool { pool, _ in
            try await pool.execute("SELECT set_config('crmm.scope', 'platform', false)", scope: .none)
            #expect(try await current(pool, .none) == [""])
        }
    }

    @Test("concurrent requests in different scopes each see their own")
    func concurrent() async throws {
        try await TestServer.withPool { pool, _ in
            try await withThrowingTaskGroup { group in
                for index in 0..<100 {
                    let scope = index % 3 == 0 ? Scope.none : Scope(setting: "site:\(index)")
                    group.addTask {
                        let seen = try await current(pool, scope)
                        #expect(seen == [scope.setting])
                    }
                }
                try await group.waitForAll()
            }
        }
    }

    @Test("a scope of 64 KiB is taken and one byte more is refused")
    func sizes() async throws {
        try await TestServer.withPool { pool, _ in
            let most = Scope(setting: String(repeating: "x", count: Scope.bytesMax))
            #expect(try await current(pool, most) == [most.setting])
            let over = Scope(setting: most.setting + "x")
            try await expect(.configuration) { _ = try await current(pool, over) }
        }
    }

    @Test(
        "a scope with quotes, control or foreign characters is refused",
        arguments: ["a'b", "a\"b", "a\\b", "a\nb", "a\0", "ä"])
    func characters(setting: String) async throws {
        try await TestServer.withPool { pool, _ in
            let scope = Scope(setting: setting)
            try await expect(.configuration) { _ = try await current(pool, scope) }
            try await expect(.configuration) { try await pool.transaction(scope: scope) { _ in } }
        }
    }
}
