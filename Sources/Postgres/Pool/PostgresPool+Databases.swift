extension PostgresPool {
    /// Creates an empty database. The name is 1–63 of `a–z`, `0–9` and `_` and does not begin with a digit.
    package func createDatabase(_ name: String, timeout: Duration? = nil) async throws {
        try await administer("CREATE DATABASE", name, timeout: timeout)
    }

    /// Drops a database if it is there, and ends the sessions in it.
    package func dropDatabase(_ name: String, timeout: Duration? = nil) async throws {
        try await administer("DROP DATABASE IF EXISTS", name, "WITH (FORCE)", timeout: timeout)
    }

    /// These statements take no parameters, so the name is checked to be nothing but a name.
    private func administer(
        _ verb: StaticString, _ name: String, _ option: StaticString = "", timeout: Duration?
    ) async throws {
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
        try await run(script: "\(verb) \(name) \(option)", timeout: timeout)
    }
}
