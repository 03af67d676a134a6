package import Domain
import Postgres

/// What still stands under job keys that are to be retired.
package struct KeyUse: Sendable, Equatable {
    /// Jobs with runs that have not ended.
    package let openJobs: Int
    /// Enrolment tokens that may still be used.
    package let tokens: Int

    /// Nothing.
    package static let none = KeyUse(openJobs: 0, tokens: 0)
}

extension Ledger {
    /// Makes a key set known to gateways; one of the same version is left as it is.
    package func publish(keySet statement: [UInt8], version: Int) async throws {
        try await pool.execute(
            """
            INSERT INTO key_sets (version, statement) VALUES (\(version), \(PostgresData(statement)))
            ON CONFLICT (version) DO NOTHING
            """, scope: .platform)
    }

    /// The key set of a version as it was published.
    package func keySet(version: Int) async throws -> [UInt8]? {
        try await pool.query(
            "SELECT statement FROM key_sets WHERE version = \(version)", scope: .platform
        ) { row in try row.decode(PostgresData.self).bytes }.first
    }

    /// The newest key set that was published, as an encoded statement; nobody has verified it.
    package func newestKeySet() async throws -> (version: Int, statement: [UInt8])? {
        let rows = try await pool.query(
            "SELECT version, statement FROM key_sets ORDER BY version DESC LIMIT 1", scope: .platform
        ) { row in try row.decode((Int, PostgresData).self) }
        return rows.first.map { (version: $0.0, statement: $0.1.bytes) }
    }

    /// Devices whose assignment was not signed by the key of this id, after one device, in their order.
    package func devicesAssigned(
        notBy keyID: [UInt8], after: DeviceID, limit: Int
    ) async throws -> [DeviceID] {
        try await pool.query(
            """
            SELECT id FROM devices
            WHERE id > \(after) AND \(fragment: Self.keyID(of: "assignment", type: "assignment"))
                  <> \(PostgresData(keyID))
            ORDER BY id LIMIT \(limit)
            """, scope: .platform
        ) { row in try row.decode(DeviceID.self) }
    }

    /// Writes assignments that say the same as those before, signed anew; a device that has moved or was
    /// signed for meanwhile is left as it is. Returns how many were written.
    package func resign(_ devices: [(before: Assigned, assignment: [UInt8])]) async throws -> Int {
        try await pool.execute(
            """
            UPDATE devices d SET assignment = i.assignment, assignment_version = i.version
            FROM unnest(
                \(devices.map(\.before.organization)), \(devices.map(\.before.device)),
                \(devices.map { PostgresData($0.assignment) }),
                \(devices.map { Int32($0.before.version + 1) })
            ) AS i(organization_id, id, assignment, version)
            WHERE d.organization_id = i.organization_id AND d.id = i.id
              AND d.assignment_version = i.version - 1
            """, scope: .platform)
    }

    /// What stands under other keys than the one of this id.
    package func use(notBy keyID: [UInt8]) async throws -> KeyUse {
        try await pool.query(
            """
            SELECT (SELECT count(*) FROM jobs j
                    WHERE \(fragment: Self.keyID(of: "j.statement", type: "job")) <> \(PostgresData(keyID))
                      -- One that is not expanded yet has no runs, or not all.
                      AND (j.total IS NULL
                           OR EXISTS (SELECT FROM runs r
                                      WHERE r.organization_id = j.organization_id AND r.job_id = j.id
                                        AND r.state < 10))),
                   (SELECT count(*) FROM enrollment_tokens t
                    WHERE t.signed_by IS DISTINCT FROM \(PostgresData(keyID))
                      AND t.revoked_at IS NULL AND t.expires_at > now() AND t.uses < t.uses_max)
            """, scope: .platform
        ) { row in
            let (jobs, tokens) = try row.decode((Int, Int).self)
            return KeyUse(openJobs: jobs, tokens: tokens)
        }[0]
    }

    /// The key id in an encoded statement: behind four bytes of length and the type's prefix.
    private static func keyID(of column: SQL, type: String) -> SQL {
        "substring(\(fragment: column) FROM \(Int32("cloudrmm.\(type).v1".utf8.count + 6)) FOR 8)"
    }
}
