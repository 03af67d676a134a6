package import Domain
import Postgres

/// A row of `certificates`.
package struct CertificateRow: Sendable {
    /// Its serial number in hexadecimal digits.
    package let serial: String
    /// When it ends, and since when it is revoked.
    package let expiresAt: Instant
    package let revokedAt: Instant?
    /// When it was issued.
    package let createdAt: Instant
}

extension Ledger {
    /// The certificates that a device was issued, the newest first; at most `limit`. A site's scope, which
    /// has the device, sees none of them: who asks has seen the device.
    package func certificates(
        of device: DeviceID, organization: OrganizationID, limit: Int
    ) async throws -> [CertificateRow] {
        try await pool.query(
            """
            SELECT serial, not_after, revoked_at, created_at FROM certificates
            WHERE organization_id = \(organization) AND device_id = \(device)
            ORDER BY created_at DESC, serial LIMIT \(limit)
            """, scope: .organization(organization)
        ) { row in
            let (serial, expiresAt, revokedAt, createdAt) = try row.decode(
                (String, Instant, Instant?, Instant).self)
            return CertificateRow(
                serial: serial, expiresAt: expiresAt, revokedAt: revokedAt, createdAt: createdAt)
        }
    }

    /// Revokes all certificates of a device that are not revoked, wherever it is by now, and takes away what
    /// was sealed to it and not taken yet. Whoever calls it has seen that the caller may.
    package func revokeCertificates(of device: DeviceID) async throws {
        try await pool.pipeline(
            scope: .platform,
            [
                // It is not moved until this is committed; the statements behind this one see where it is.
                "SELECT 1 FROM devices WHERE id = \(device) FOR SHARE",
                """
                UPDATE certificates c SET revoked_at = now()
                FROM (SELECT organization_id, id FROM devices WHERE id = \(device) OFFSET 0) d
                WHERE c.organization_id = d.organization_id AND c.device_id = d.id AND c.revoked_at IS NULL
                """,
                """
                DELETE FROM secret_requests r
                USING (SELECT organization_id, id FROM devices WHERE id = \(device) OFFSET 0) d
                WHERE r.organization_id = d.organization_id AND r.device_id = d.id
                """,
            ])
    }

    /// The devices of which a certificate was revoked within so many seconds, and none is good any more; of
    /// at most `limit` certificates, the latest.
    package func devicesRevoked(withinSeconds seconds: Int, limit: Int) async throws -> [DeviceID] {
        try await pool.query(
            """
            SELECT DISTINCT r.device_id FROM (
                SELECT * FROM certificates r
                WHERE r.revoked_at > now() - make_interval(secs => \(Double(seconds)))
                ORDER BY r.revoked_at DESC LIMIT \(limit)
            ) r
            LEFT JOIN LATERAL (
                SELECT true AS is_good FROM certificates c
                WHERE \(fragment: Self.isGood(device: "r.device_id", organization: "r.organization_id"))
                LIMIT 1
            ) c ON true
            WHERE c.is_good IS NULL
            """, scope: .platform
        ) { row in try row.decode(DeviceID.self) }
    }

    /// Whether a certificate `c` is one of a device's that opens a session.
    static func isGood(device: SQL, organization: SQL) -> SQL {
        """
        c.organization_id = \(fragment: organization) AND c.device_id = \(fragment: device)
        AND c.revoked_at IS NULL AND c.not_after > now()
        """
    }
}
