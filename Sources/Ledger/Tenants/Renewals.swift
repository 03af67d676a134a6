package import Domain
import Postgres

/// A device's request for another certificate, as the rows have it.
package struct OpenRenewal: Sendable {
    /// Who asks, with its assignment.
    package let assigned: Assigned
    /// The request, PEM.
    package let request: String
    /// Whether it may hold a session.
    package let isActive: Bool
    /// Certificates that it was issued within a day.
    package let issuedToday: Int
}

/// What a device is answered.
package enum RenewalAnswer: Sendable, Equatable {
    /// The certificate, PEM.
    case certificate(String)
    /// One sentence without its end.
    case refused(String)
}

/// A certificate that the API has issued, to be noted as the device's.
package struct RenewedCertificate: Sendable {
    /// The certificate, PEM, with its serial number, the hash of its key and its end.
    package let pem: String
    package let serial: String
    package let keyHash: [UInt8]
    package let end: Instant

    /// A certificate.
    package init(pem: String, serial: String, keyHash: [UInt8], end: Instant) {
        (self.pem, self.serial, self.keyHash, self.end) = (pem, serial, keyHash, end)
    }
}

extension Ledger {
    /// Asks for other certificates; answers that were not taken count for nothing any more.
    package func askRenewals(
        _ requests: [(organization: OrganizationID, device: DeviceID, request: String)]
    ) async throws {
        guard !requests.isEmpty else { return }
        try await pool.execute(
            """
            UPDATE devices d
            SET renewal_request = i.request, renewal_certificate = NULL, renewal_refusal = NULL
            FROM unnest(\(requests.map(\.organization)), \(requests.map(\.device)),
                        \(requests.map(\.request))) AS i(organization_id, id, request)
            WHERE d.organization_id = i.organization_id AND d.id = i.id
            """, scope: .organizations(requests.map(\.organization)))
    }

    /// Takes the answers to devices away, each once.
    package func takeRenewals(
        of devices: [(organization: OrganizationID, device: DeviceID)]
    ) async throws -> [DeviceID: RenewalAnswer] {
        let rows = try await pool.query(
            """
            WITH answered AS MATERIALIZED (
                SELECT d.organization_id, d.id, d.renewal_certificate, d.renewal_refusal
                FROM unnest(\(devices.map(\.organization)), \(devices.map(\.device)))
                    AS i(organization_id, id)
                CROSS JOIN LATERAL (
                    SELECT * FROM devices d
                    WHERE d.organization_id = i.organization_id AND d.id = i.id
                    OFFSET 0 FOR UPDATE SKIP LOCKED
                ) d
                WHERE d.renewal_certificate IS NOT NULL OR d.renewal_refusal IS NOT NULL
            )
            UPDATE devices d SET renewal_certificate = NULL, renewal_refusal = NULL
            FROM answered a
            -- As `isLocked` says it of a run; an index of devices leads with the organization.
            WHERE d.organization_id = ANY (ARRAY[a.organization_id]) AND d.id = ANY (ARRAY[a.id])
            RETURNING a.id, a.renewal_certificate, a.renewal_refusal
            """, scope: .organizations(devices.map(\.organization))
        ) { row in try row.decode((DeviceID, String?, String?).self) }
        return rows.reduce(into: [:]) { answers, row in
            answers[row.0] = row.1.map { .certificate($0) } ?? .refused(row.2 ?? "")
        }
    }

    /// Requests that wait for an answer.
    package func openRenewals(limit: Int) async throws -> [OpenRenewal] {
        try await pool.query(
            """
            SELECT d.id, d.organization_id, d.site_id, d.renewal_request, d.assignment, d.assignment_version,
                   d.state = 0 AND s.state = 0 AND NOT s.closed,
                   (SELECT count(*) FROM certificates c
                    WHERE c.organization_id = d.organization_id AND c.device_id = d.id
                      AND c.created_at > now() - interval '1 day')
            FROM devices d JOIN sites s ON s.organization_id = d.organization_id AND s.id = d.site_id
            WHERE d.renewal_request IS NOT NULL ORDER BY d.id LIMIT \(limit)
            """, scope: .platform
        ) { row in
            let (device, organization, site, request, assignment, version, isActive, issued) =
                try row.decode(
                    (DeviceID, OrganizationID, SiteID, String, PostgresData, Int32, Bool, Int).self)
            return OpenRenewal(
                assigned: Assigned(
                    device: device, organization: organization, site: site, assignment: assignment.bytes,
                    version: Int(version)),
                request: request, isActive: isActive, issuedToday: issued)
        }
    }

    /// Notes a certificate as its device's, and answers with it. Nothing is noted where the request is
    /// another one by now, or the device has no certificate that opens a session: those were revoked, and one
    /// that is issued at the same moment must not stay.
    /// - Returns: whether it was noted.
    package func answer(_ open: OpenRenewal, with certificate: RenewedCertificate) async throws -> Bool {
        let results = try await pool.pipeline(
            scope: .platform,
            [
                // Who revokes locks the device too: the statements behind this one see what was done first.
                "SELECT 1 FROM devices WHERE id = \(open.assigned.device) FOR UPDATE",
                """
                INSERT INTO certificates (organization_id, device_id, serial, key_hash, not_after)
                SELECT d.organization_id, d.id, \(certificate.serial), \(PostgresData(certificate.keyHash)),
                       \(certificate.end)
                FROM devices d
                WHERE d.id = \(open.assigned.device) AND d.renewal_request = \(open.request)
                  AND EXISTS (
                      SELECT FROM certificates c
                      WHERE \(fragment: Self.isGood(device: "d.id", organization: "d.organization_id")))
                RETURNING serial
                """,
                """
                UPDATE devices d SET renewal_request = NULL, renewal_certificate = \(certificate.pem)
                WHERE d.id = \(open.assigned.device) AND d.renewal_request = \(open.request)
                  AND EXISTS (
                      SELECT FROM certificates c
                      WHERE c.organization_id = d.organization_id AND c.serial = \(certificate.serial))
                """,
            ])
        return !results[1].rows.isEmpty
    }

    /// Answers that there is no certificate.
    package func refuse(_ open: OpenRenewal, _ reason: String) async throws {
        try await pool.execute(
            """
            UPDATE devices SET renewal_request = NULL, renewal_refusal = \(reason)
            WHERE organization_id = \(open.assigned.organization) AND id = \(open.assigned.device)
              AND renewal_request = \(open.request)
            """, scope: .platform)
    }
}
