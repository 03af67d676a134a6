package import Domain
import Postgres

/// What a database server says about itself to a login.
package struct ServerFacts: Sendable {
    /// As `server_version_num`: 150004 is 15.4.
    package let version: Int
    /// Its clock.
    package let time: Instant
    /// The login, and whether row-level security does not hold for it.
    package let login: String
    package let isAboveRowSecurity: Bool
}

extension Ledger {
    /// What the server says about itself.
    package func serverFacts() async throws -> ServerFacts? {
        try await pool.query(
            """
            SELECT current_setting('server_version_num')::bigint, clock_timestamp(), current_user::text,
                   (SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user)
            """, scope: .none
        ) { row in
            let (version, time, login, isAbove) = try row.decode((Int, Instant, String, Bool).self)
            return ServerFacts(version: version, time: time, login: login, isAboveRowSecurity: isAbove)
        }.first
    }

    /// The migrations of this release that were not applied here, by name.
    ///
    /// - Throws: also where none was ever applied, or none of a release that says so.
    package func missingMigrations() async throws -> [String] {
        let applied = try await pool.query(
            "SELECT unnest(crmm_schema_versions())", scope: .none
        ) { row in try row.decode(Int.self) }
        return Self.migrations.filter { !applied.contains($0.version) }.map(\.name)
    }
}
