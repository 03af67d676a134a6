package import Domain
import Postgres

/// What a gateway asks for an attempt whose job names secrets.
package struct SecretRequest: Sendable {
    /// Which attempt, on which device.
    package let organization: OrganizationID
    package let run: RunID
    package let token: AttemptToken
    package let job: JobID
    package let device: DeviceID
    /// The public key that the device has shown.
    package let deviceKey: [UInt8]

    /// A request.
    package init(
        organization: OrganizationID, run: RunID, token: AttemptToken, job: JobID, device: DeviceID,
        deviceKey: [UInt8]
    ) {
        (self.organization, self.run, self.token) = (organization, run, token)
        (self.job, self.device, self.deviceKey) = (job, device, deviceKey)
    }
}

/// A request that nobody has answered, with what it is judged by.
package struct OpenSecretRequest: Sendable {
    /// What was asked.
    package let request: SecretRequest
    /// The job's signed statement and the devices of its list; `nil` if the job is not there any more.
    package let content: JobContent?
    /// The device's signed assignment; `nil` if it is not one of the organization's.
    package let assignment: [UInt8]?
}

/// What the API answered.
package enum SecretAnswer: Sendable, Equatable {
    /// Values sealed to the device's key, in the order of the script's uses.
    case sealed([[UInt8]])
    /// Why there is none, in one sentence.
    case refused(String)
}

extension Ledger {
    /// Asks for the secrets of attempts, each run once; what was asked for an earlier attempt is forgotten.
    package func request(_ requests: [SecretRequest]) async throws {
        for start in stride(from: 0, to: requests.count, by: Self.batchMax) {
            let batch = requests[start..<min(start + Self.batchMax, requests.count)]
            try await pool.execute(
                """
                INSERT INTO secret_requests AS r (organization_id, run_id, token, job_id, device_id,
                                                  device_key)
                SELECT * FROM unnest(\(batch.map(\.organization)), \(batch.map(\.run)),
                                     \(batch.map(\.token)), \(batch.map(\.job)), \(batch.map(\.device)),
                                     \(batch.map { PostgresData($0.deviceKey) }))
                ON CONFLICT (organization_id, run_id) DO UPDATE
                SET token = excluded.token, job_id = excluded.job_id, device_id = excluded.device_id,
                    device_key = excluded.device_key, sealed = NULL, refusal = NULL, requested_at = now()
                """, scope: .organizations(batch.map(\.organization)))
        }
    }

    /// Takes away those of these requests that were answered; returns the answers.
    package func takeAnswers(
        to requests: [(organization: OrganizationID, run: RunID, token: AttemptToken)]
    ) async throws -> [RunID: SecretAnswer] {
        let rows = try await Self.inBatches(requests) { requests in
            try await pool.query(
                """
                DELETE FROM secret_requests r
                USING unnest(\(requests.map(\.organization)), \(requests.map(\.run)),
                             \(requests.map(\.token))) AS i(organization_id, run_id, token)
                WHERE r.organization_id = i.organization_id AND r.run_id = i.run_id AND r.token = i.token
                  AND (r.sealed IS NOT NULL OR r.refusal IS NOT NULL)
                RETURNING r.run_id, r.sealed, r.refusal
                """, scope: .organizations(requests.map(\.organization))
            ) { row in try row.decode((RunID, [PostgresData]?, String?).self) }
        }
        return Dictionary(
            rows.map { run, sealed, refusal in
                (run, sealed.map { .sealed($0.map(\.bytes)) } ?? .refused(refusal ?? ""))
            }
        ) { first, _ in first }
    }

    /// The oldest requests that nobody has answered.
    package func openSecretRequests(limit: Int) async throws -> [OpenSecretRequest] {
        try await pool.query(
            """
            SELECT r.organization_id, r.run_id, r.token, r.job_id, r.device_id, r.device_key, j.statement,
                   j.target_devices, d.assignment
            FROM (SELECT * FROM secret_requests WHERE sealed IS NULL AND refusal IS NULL
                  ORDER BY requested_at LIMIT \(limit)) r
            LEFT JOIN LATERAL (
                SELECT * FROM jobs j
                WHERE j.organization_id = r.organization_id AND j.id = r.job_id AND j.has_secrets OFFSET 0
            ) j ON true
            LEFT JOIN LATERAL (
                SELECT * FROM devices d
                WHERE d.organization_id = r.organization_id AND d.id = r.device_id AND d.state = 0 OFFSET 0
            ) d ON true
            """, scope: .platform
        ) { row in
            let (organization, run, token, job, device, key, statement, devices, assignment) =
                try row.decode(
                    (
                        OrganizationID, RunID, AttemptToken, JobID, DeviceID, PostgresData, PostgresData?,
                        PostgresData?, PostgresData?
                    ).self)
            return OpenSecretRequest(
                request: SecretRequest(
                    organization: organization, run: run, token: token, job: job, device: device,
                    deviceKey: key.bytes),
                content: statement.map {
                    JobContent(
                        statement: $0.bytes, devices: devices.map(Self.ids), trace: nil, hasSecrets: true)
                },
                assignment: assignment?.bytes)
        }
    }

    /// Answers requests that are still those of the same attempt and not answered.
    package func answer(_ answers: [(request: SecretRequest, answer: SecretAnswer)]) async throws {
        try await pool.pipeline(
            scope: .platform,
            answers.map { request, answer in
                var sealed: [PostgresData]?
                var refusal: String?
                switch answer {
                case .sealed(let values): sealed = values.map { PostgresData($0) }
                case .refused(let reason): refusal = reason
                }
                return """
                    UPDATE secret_requests SET sealed = \(sealed), refusal = \(refusal)
                    WHERE organization_id = \(request.organization) AND run_id = \(request.run)
                      AND token = \(request.token) AND sealed IS NULL AND refusal IS NULL
                    """
            })
    }

    /// Takes away what nobody has taken for a minute; returns how many there were.
    package func pruneSecretRequests() async throws -> Int {
        try await pool.execute(
            "DELETE FROM secret_requests WHERE requested_at < now() - interval '1 minute'",
            scope: .platform)
    }
}
