import Testing

@testable import Postgres

@Suite struct ValueTests {
    private func roundTrip<Value: PostgresEncodable & PostgresDecodable & Equatable>(
        _ values: [Value], _ pool: PostgresPool
    ) async throws {
        for value in values {
            #expect(
                try await pool.query("SELECT \(value)", scope: .none) { try $0.decode(Value.self) } == [value]
            )
            let optional: Value? = value
            #expect(
                try await pool.query("SELECT \(optional)", scope: .none) { try $0.decode(Value?.self) } == [
                    value
                ])
        }
        let null: Value? = nil
        #expect(try await pool.query("SELECT \(null)", scope: .none) { try $0.decode(Value?.self) } == [nil])
        #expect(
            try await pool.query("SELECT \(values)", scope: .none) { try $0.decode([Value].self) } == [values]
        )
        let holes: [Value?] = [nil] + values + [nil]
        #expect(
            try await pool.query("SELECT \(holes)", scope: .none) { try $0.decode([Value?].self) } == [holes])
        let none: [Value] = []
        #expect(
            try await pool.query("SELECT \(none)", scope: .none) { try $0.decode([Value].self) } == [none])
        let absent: [Value]? = nil
        #expect(
            try await pool.query("SELECT \(absent)", scope: .none) { try $0.decode([Value]?.self) } == [nil])
    }

    @Test("every built-in type survives the way to the server and back, alone, as NULL and in arrays")
    func roundTrips() async throws {
        try await TestServer.withPool { pool, _ in
            try await roundTrip([true, false], pool)
            try await roundTrip([Int16.min, 0, .max], pool)
            try await roundTrip([Int32.min, -1, .max], pool)
            try await roundTrip([Int.min, 0, 1, .max], pool)
            try await roundTrip([0, -1.5, .infinity, .leastNonzeroMagnitude], pool)
            try await roundTrip(["", "a", "grün 🚀", String(repeating: "x", count: 100_000)], pool)
            try await roundTrip([PostgresData([]), PostgresData([0, 255, 10])], pool)
            try await roundTrip([PostgresUUID(high: .max, low: 1), PostgresUUID(high: 0, low: 0)], pool)
            try await roundTrip([PostgresJSON(#"{"a": [1, null]}"#), PostgresJSON("null")], pool)
            let instants = [Int64.min, 0, -1, 1_700_000_000_123_456, .max]
            try await roundTrip(instants.map(PostgresTimestamp.init(microsecondsSince1970:)), pool)
        }
    }

    @Test("the server reads the binary values as meant")
    func meaning() async throws {
        try await TestServer.withPool { pool, _ in
            let uuid = try #require(PostgresUUID(bytes: Array(0...15 as ClosedRange<UInt8>)))
            #expect(uuid.bytes == Array(0...15))
            let texts = try await pool.query(
                """
                SELECT \(true)::text, \(Int16(-2))::text, \(-3)::text, \(2.5)::text,
                    \(PostgresData([0xAB]))::text, \(uuid)::text,
                    (\(PostgresTimestamp(microsecondsSince1970: 1_000_001)) AT TIME ZONE 'UTC')::text,
                    \(PostgresTimestamp(microsecondsSince1970: .max))::text, \(["a", nil])::text,
                    \(PostgresJSON("[1]"))->>0
                """, scope: .none
            ) { row in
                try row.decode(
                    (String, String, String, String, String, String, String, String, String, String).self)
            }
            let (bool, small, int, double, data, id, instant, infinity, array, json) = try #require(
                texts.first)
            #expect([bool, small, int, double, data] == ["true", "-2", "-3", "2.5", "\\xab"])
            #expect(id == "00010203-0405-0607-0809-0a0b0c0d0e0f")
            #expect(
                [instant, infinity, array, json] == [
                    "1970-01-01 00:00:01.000001", "infinity", "{a,NULL}", "1",
                ])
        }
    }

    @Test("a wider Swift type reads a narrower column, and String reads JSON")
    func widening() async throws {
        try await TestServer.withPool { pool, _ in
            let row = try await pool.query(
                "SELECT 1::int2, 2::int4, 3::int2, 0.5::float4, '{\"a\": 1}'::jsonb, 'v'::varchar(9)",
                scope: .none
            ) { row -> (Int, Int, Int32, Double, String, String) in try row.decode() }
            #expect(try #require(row.first) == (1, 2, 3, 0.5, "{\"a\": 1}", "v"))
        }
    }

    @Test("a decoding error names the column, its type and the Swift type")
    func decodingErrors() async throws {
        try await TestServer.withPool { pool, _ in
            let mismatch = try await error {
                _ = try await pool.query("SELECT 'x'::text AS name", scope: .none) { try $0.decode(Int.self) }
            }
            #expect(mismatch.code == .decoding && mismatch.message == #"column "name" is text, expected Int"#)
            let null = try await error {
                _ = try await pool.query("SELECT NULL::int8 AS n", scope: .none) { try $0.decode(Int.self) }
            }
            #expect(null.message == #"column "n" is NULL (int8), expected Int"#)
            let hole = try await error {
                _ = try await pool.query("SELECT ARRAY[1, NULL]::int8[] AS list", scope: .none) {
                    try $0.decode([Int].self)
                }
            }
            #expect(hole.message == #"column "list" is NULL (int8), expected Int"#)
            let count = try await error {
                _ = try await pool.query("SELECT 1 AS a, true AS b", scope: .none) {
                    try $0.decode((Int, Bool, Int).self)
                }
            }
            #expect(count.message == "expected 3 columns, found 2: a int4, b bool")
            let narrow = try await error {
                _ = try await pool.query("SELECT 1::int8 AS big", scope: .none) { try $0.decode(Int32.self) }
            }
            #expect(narrow.message == #"column "big" is int8, expected Int32"#)
            let nested = try await error {
                _ = try await pool.query("SELECT '{{1,2}}'::int8[] AS grid", scope: .none) {
                    try $0.decode([Int].self)
                }
            }
            #expect(nested.message.contains("2 dimensions"))
            let scalar = try await error {
                _ = try await pool.query("SELECT 7::int8 AS n", scope: .none) { try $0.decode([Int].self) }
            }
            #expect(scalar.message == #"column "n" is int8, expected Array<Int>"#)
            #expect(!scalar.isTransient && !scalar.mayHaveCommitted)
        }
    }

    @Test("garbage in an array's bytes is an error and never a crash")
    func garbage() throws {
        var whole = PostgresBind(elements: ["abc", nil, "d"]).bytes ?? []
        for length in 0..<whole.count {
            let cell = PostgresCell(column: "a", type: .textArray, bytes: whole[..<length])
            #expect(throws: PostgresError.self) { try [String?](postgres: cell) }
        }
        for index in whole.indices {
            let kept = whole[index]
            for value in [0x7F, 0x80, 0xFF] as [UInt8] {
                whole[index] = value
                // Some of these are arrays still: what counts is that none traps.
                _ = try? [String?](postgres: PostgresCell(column: "a", type: .textArray, bytes: whole[...]))
            }
            whole[index] = kept
        }
        #expect(PostgresUUID(bytes: [1, 2, 3]) == nil)
    }

    @Test("U+0000 in text is refused by the server and the connection goes on")
    func nulByte() async throws {
        try await TestServer.withPool { pool, _ in
            let refused = try await error { try await pool.execute("SELECT \("a\0b")", scope: .none) }
            #expect(refused.sqlState == "22021")
            #expect(try await pool.query("SELECT 1", scope: .none) { try $0.decode(Int.self) } == [1])
        }
    }
}
