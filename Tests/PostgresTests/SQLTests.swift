import Testing

@testable import Postgres

@Suite struct SQLTests {
    @Test("each interpolated value is a numbered parameter")
    func numbering() {
        let sql: SQL = "SELECT \(1), \("a"), \(nil as Bool?), \([1, 2]), \([1, nil])"
        #expect(sql.text == "SELECT $1, $2, $3, $4, $5")
        #expect(sql.binds.map(\.type) == [.int8, .text, .bool, .int8Array, .int8Array])
        #expect(sql.binds[2].bytes == nil)
    }

    @Test("a spliced fragment's parameters are renumbered")
    func splice() {
        let filter: SQL = "b = \(2) AND c = \(3)"
        let sql: SQL = "a = \(1) AND (\(fragment: filter)) AND d = \(4)"
        #expect(sql.text == "a = $1 AND (b = $2 AND c = $3) AND d = $4")
        #expect(sql.binds.map(\.bytes?.last) == [1, 2, 3, 4])
    }

    @Test("fragments are joined with a separator")
    func joined() {
        #expect(
            SQL.joined(["a = \(1)", "b", "c = \(2)"], separator: " AND ").text == "a = $1 AND b AND c = $2")
        #expect(SQL.joined([]).text == "")
    }

    @Test("65,535 parameters are sent and one more is refused")
    func parametersMax() async throws {
        #expect(throws: Never.self) { try Statement(.joined(Array(repeating: "\(1)", count: 65_535))) }
        let refused = try await error { _ = try Statement(.joined(Array(repeating: "\(1)", count: 65_536))) }
        #expect(refused.code == .configuration)
    }

    @Test("text that looks like SQL stays a value")
    func injection() async throws {
        try await TestServer.withDatabase { pool, _ in
            try await pool.execute("CREATE TABLE notes (body text)", scope: .none)
            let body = "'); DROP TABLE notes; --\\ \" ' $1"
            try await pool.execute("INSERT INTO notes VALUES (\(body))", scope: .none)
            #expect(
                try await pool.query("SELECT body FROM notes", scope: .none) { try $0.decode(String.self) }
                    == [body])
        }
    }

    @Test("a statement's text on the server has no values in it")
    func preparedText() async throws {
        try await TestServer.withPool { pool, _ in
            for _ in 0..<2 {
                let texts = try await pool.query(
                    "SELECT statement FROM pg_prepared_statements WHERE \("x") = 'x'", scope: .none
                ) {
                    try $0.decode(String.self)
                }
                #expect(texts.contains("SELECT statement FROM pg_prepared_statements WHERE $1 = 'x'"))
            }
        }
    }
}
