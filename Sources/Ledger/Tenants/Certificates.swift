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

    /// Revokes all certificates of a device that are not revoked.
    package func revokeCertificates(of device: DeviceID, organization: OrganizationID) async throws {
        try await pool.execute(
            """
            UPDATE certificates SET revoked_at = now()
            WHERE organization_id = \(organization) AND device_id = \(device) AND revoked_at IS NULL
            """, scope: .organization(organization))
    }

    /// The devices of which a certificate was revoked within so many seconds, and none is good any more.
    package func devicesRevoked(withinSeconds seconds: Int) async throws -> [DeviceID] {
        try await pool.query(
            """
            SELECT DISTINCT r.device_id FROM (
                SELECT * FROM certificates r
                WHERE r.revoked_at > now() - make_interval(secs => \(Double(seconds))) OFFSET 0
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
