import Faults
package import Logging

/// One step of the schema.
package struct Migration: Sendable {
    /// Its place in the order; positive.
    package let version: Int
    /// What people call it, as in the name of its file.
    package let name: String
    /// A trusted script of any number of statements, none of which opens or ends a transaction.
    package let sql: String

    /// Names a step.
    package init(version: Int, name: String, sql: String) {
        self.version = version
        self.name = name
        self.sql = sql
    }
}

/// Brings a database to the newest schema, forward only.
///
/// The table `crmm_migrations` keeps version, name and SHA-256 of each applied step. Each step is applied in
/// a transaction of its own together with its row, under an advisory lock; so several that migrate at once
/// apply each step once, and a crash leaves whole steps. The database's user needs the right to create
/// tables.
package struct Migrator: Sendable {
    /// How long one step may take, and how long to wait for another migrator.
    package static let stepTimeout: Duration = .seconds(3_600)

    private let migrations: [Migration]

    /// Takes the steps in any order.
    package init(migrations: [Migration]) {
        self.migrations = migrations.sorted { $0.version < $1.version }
    }

    /// Applies what is missing; returns the versions that this call applied.
    ///
    /// Throws `configuration` that names the step if an applied one has changed or is missing here, or if one
    /// comes before the last applied.
    package func migrate(_ pool: PostgresPool) async throws -> [Int] {
        try checkVersions()
        var applied: [Int] = []
        while let version = try await applyNext(pool) { applied.append(version) }
        return applied
    }

    /// As ``migrate(_:)-(PostgresPool)``, with a pool for this alone.
    package func migrate(_ configuration: PostgresConfiguration, logger: Logger) async throws -> [Int] {
        var configuration = configuration
        (configuration.connections, configuration.transactionConnections) = (1, 1)
        let pool = PostgresPool(configuration: configuration, logger: logger)
        pool.start()
        do {
            let applied = try await migrate(pool)
            await pool.close()
            return applied
        } catch {
            await pool.close()
            throw error
        }
    }

    private func checkVersions() throws(PostgresError) {
        if let first = migrations.first, first.version < 1 {
            throw PostgresError(
                .configuration, "migration \(first.version) \"\(first.name)\": versions are positive")
        }
        for (one, next) in zip(migrations, migrations.dropFirst()) where one.version == next.version {
            throw PostgresError(
                .configuration,
                "migrations \"\(one.name)\" and \"\(next.name)\" have the same version \(one.version)")
        }
    }

    /// Applies the next step; nil if there is none.
    private func applyNext(_ pool: PostgresPool) async throws -> Int? {
        try await pool.transaction(scope: .platform) { transaction in
            try await transaction.execute(
                "SELECT pg_advisory_xact_lock(7236544901)", timeout: Self.stepTimeout)
            try await transaction.execute(
                """
                CREATE TABLE IF NOT EXISTS crmm_migrations (
                    version int8 PRIMARY KEY,
                    name text NOT NULL,
                    checksum bytea NOT NULL,
                    applied_at timestamptz NOT NULL DEFAULT now()
                )
                """)
            let newest = try await checkApplied(transaction)
            guard let next = migrations.first(where: { $0.version > newest }) else { return nil }
            let limit = "SET LOCAL statement_timeout = \(Self.stepTimeout.milliseconds);\n"
            do {
                try await transaction.execute(script: limit + next.sql, timeout: Self.stepTimeout)
            } catch let error as PostgresError {
                throw error.inMigration(next)
            }
            FaultPoint.reach(.migratorMidStep)
            try await transaction.execute(
                """
                INSERT INTO crmm_migrations (version, name, checksum)
                VALUES (\(next.version), \(next.name), sha256(\(PostgresData(Array(next.sql.utf8)))))
                """)
            return next.version
        }
    }

    /// Compares what was applied with what is here; returns the newest applied version, 0 for none.
    private func checkApplied(_ transaction: PostgresTransaction) async throws -> Int {
        let scripts = migrations.map { PostgresData(Array($0.sql.utf8)) }
        let applied = try await transaction.query(
            """
            SELECT a.version, a.name, k.version IS NULL, a.checksum IS DISTINCT FROM sha256(k.sql)
            FROM crmm_migrations a
            LEFT JOIN unnest(\(migrations.map(\.version)), \(scripts))
                AS k(version, sql) ON k.version = a.version
            ORDER BY a.version
            """
        ) { try $0.decode((Int, String, Bool, Bool).self) }
        for (version, name, isMissing, isChanged) in applied {
            if isMissing {
                throw PostgresError(
                    .configuration, "applied migration \(version) \"\(name)\" is missing here")
            }
            if isChanged {
                throw PostgresError(
                    .configuration, "applied migration \(version) \"\(name)\" has changed since")
            }
        }
        let newest = applied.last?.0 ?? 0
        let known = Set(applied.map(\.0))
        if let late = migrations.first(where: { $0.version < newest && !known.contains($0.version) }) {
            throw PostgresError(
                .configuration,
                "migration \(late.version) \"\(late.name)\" comes before \(newest), which is applied already")
        }
        return newest
    }
}

extension PostgresError {
    /// The same failure, with the step that caused it in its sentence.
    fileprivate func inMigration(_ migration: Migration) -> PostgresError {
        var error = PostgresError(
            code, "migration \(migration.version) \"\(migration.name)\" failed: \(message)",
            sqlState: sqlState,
            mayHaveCommitted: mayHaveCommitted)
        (error.constraint, error.table, error.column) = (constraint, table, column)
        return error
    }
}
