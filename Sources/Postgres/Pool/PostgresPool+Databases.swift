extension PostgresPool {
    /// Creates a database, empty or as another is that nobody uses. A name is 1–63 of `a–z`, `0–9` and `_`
    /// and does not begin with a digit. Settings of roles in the other, and who may connect to it, are not
    /// copied.
    package func createDatabase(
        _ name: String, like template: String? = nil, timeout: Duration? = nil
    ) async throws {
        let option = try template.map { "TEMPLATE \(try Self.checked($0))" } ?? ""
        try await run(script: "CREATE DATABASE \(Self.checked(name)) \(option)", timeout: timeout)
    }

    /// Drops a database if it is there, and ends the sessions in it.
    package func dropDatabase(_ name: String, timeout: Duration? = nil) async throws {
        try await run(
            script: "DROP DATABASE IF EXISTS \(Self.checked(name)) WITH (FORCE)", timeout: timeout)
    }

    /// These statements take no parameters, so a name is checked to be nothing but a name.
    private static func checked(_ name: String) throws(PostgresError) -> String {
        let letters = UInt8(ascii: "a")...UInt8(ascii: "z")
        let digits = UInt8(ascii: "0")...UInt8(ascii: "9")
        let isName = name.utf8.allSatisfy {
            letters.contains($0) || digits.contains($0) || $0 == UInt8(ascii: "_")
        }
        guard isName, (1...63).contains(name.utf8.count),
            name.utf8.first.map({ !digits.contains($0) }) ?? false
        else {
            throw PostgresError(
                .configuration, "a database's name is 1–63 of a–z, 0–9 and _, not a digit first")
        }
        return name
    }
}
