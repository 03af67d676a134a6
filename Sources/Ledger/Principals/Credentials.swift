package import Domain
import Postgres

/// A row of `user_credentials`: how a person proves to be who it is. Its MAC is judged before it is believed.
package struct CredentialsRow: Sendable {
    /// Whose they are.
    package let user: UserID
    /// The password as it is kept; `nil` before the first.
    package var passwordHash: String?
    /// The authenticator's secret, sealed, and whether a code of it was shown once.
    package var sealed: [UInt8]?
    package var isConfirmed: Bool
    /// The recovery codes that are left.
    package var recoveryHashes: [[UInt8]]
    /// The last step whose code was taken: that one and those before it are taken no more.
    package var lastStep: Int
    /// Until when the row lets anybody in; it is renewed at each sign-in.
    package var expiresAt: Instant
    /// How often it was changed, from 1; 0 is a row that is not there yet.
    package var version: Int
    /// The MAC.
    package var mac: RowMAC

    /// What somebody has who has nothing yet.
    package init(user: UserID, expiresAt: Instant) {
        self.user = user
        self.expiresAt = expiresAt
        (isConfirmed, recoveryHashes, lastStep, version) = (false, [], 0, 0)
        mac = RowMAC(keyID: "", code: [])
    }

    /// What the row's MAC covers under a key. The recovery codes stand last, since their number varies.
    package func sealedParts(keyID: String) -> [[UInt8]] {
        [
            Array("user_credentials".utf8), user.bytes, Array(keyID.utf8), Array(String(version).utf8),
            Array((passwordHash ?? "").utf8), sealed ?? [], [isConfirmed ? 1 : 0],
            Array(String(lastStep).utf8), expiresAt.sealedPart,
        ] + recoveryHashes
    }
}

extension Ledger {
    /// A person's credentials.
    package func credentials(of user: UserID) async throws -> CredentialsRow? {
        try await pool.query(
            """
            SELECT password_hash, sealed, confirmed, recovery_hashes, totp_step, expires_at, version, mac_key,
                   mac
            FROM user_credentials WHERE user_id = \(user)
            """, scope: .platform
        ) { row in
            let (password, sealed, isConfirmed, recovery, step, expiresAt, version, macKey, mac) =
                try row.decode(
                    (String?, PostgresData?, Bool, [PostgresData], Int, Instant, Int, String, PostgresData)
                        .self)
            var credentials = CredentialsRow(user: user, expiresAt: expiresAt)
            (credentials.passwordHash, credentials.sealed) = (password, sealed?.bytes)
            (credentials.isConfirmed, credentials.recoveryHashes) = (isConfirmed, recovery.map(\.bytes))
            (credentials.lastStep, credentials.version) = (step, version)
            credentials.mac = RowMAC(keyID: macKey, code: mac.bytes)
            return credentials
        }.first
    }

    /// Writes credentials as changed, if the row is still of the version before, and no code of a later step
    /// was taken meanwhile; `false` if not.
    package func write(_ credentials: CredentialsRow) async throws -> Bool {
        try await pool.execute(
            """
            INSERT INTO user_credentials AS c (user_id, password_hash, sealed, confirmed, recovery_hashes,
                                               totp_step, expires_at, version, mac_key, mac)
            VALUES (\(credentials.user), \(credentials.passwordHash),
                    \(credentials.sealed.map { PostgresData($0) }), \(credentials.isConfirmed),
                    \(credentials.recoveryHashes.map { PostgresData($0) }), \(credentials.lastStep),
                    \(credentials.expiresAt), \(credentials.version), \(credentials.mac.keyID),
                    \(PostgresData(credentials.mac.code)))
            ON CONFLICT (user_id) DO UPDATE
            SET password_hash = excluded.password_hash, sealed = excluded.sealed,
                confirmed = excluded.confirmed, recovery_hashes = excluded.recovery_hashes,
                totp_step = excluded.totp_step, expires_at = excluded.expires_at,
                version = excluded.version, mac_key = excluded.mac_key, mac = excluded.mac, updated_at = now()
            WHERE c.version = excluded.version - 1 AND c.totp_step <= excluded.totp_step
            """, scope: .platform) > 0
    }

    /// Writes the renewal of credentials.
    package func renew(_ credentials: CredentialsRow) async throws {
        try await pool.execute(
            """
            UPDATE user_credentials
            SET expires_at = \(credentials.expiresAt), mac_key = \(credentials.mac.keyID),
                mac = \(PostgresData(credentials.mac.code))
            WHERE user_id = \(credentials.user) AND version = \(credentials.version)
              AND totp_step = \(credentials.lastStep) AND expires_at < \(credentials.expiresAt)
              AND sealed IS NOT DISTINCT FROM \(credentials.sealed.map { PostgresData($0) })
            """, scope: .platform)
    }

    /// Takes the code of the row's last step, if the row is still as it was but for that step, which was
    /// `before`; `false` if not: then this code or a later one was taken, or the row was changed.
    package func takeStep(_ credentials: CredentialsRow, after before: Int) async throws -> Bool {
        try await pool.execute(
            """
            UPDATE user_credentials
            SET totp_step = \(credentials.lastStep), mac_key = \(credentials.mac.keyID),
                mac = \(PostgresData(credentials.mac.code))
            WHERE user_id = \(credentials.user) AND version = \(credentials.version)
              AND expires_at = \(credentials.expiresAt) AND totp_step = \(before)
              AND sealed = \(credentials.sealed.map { PostgresData($0) })
            """, scope: .platform) > 0
    }

    /// Counts a sign-in as failed until it is known to have succeeded, for an account and an address, each by
    /// its hash; `false` if one of them has failed so often that it has to wait.
    ///
    /// After `free` failures each further one has to wait twice as long as the one before, a quarter of an
    /// hour at the most; after an hour without one all is forgotten.
    package func beginSignIn(_ subjects: [(hash: [UInt8], free: Int)]) async throws -> Bool {
        let counted = try await pool.execute(
            """
            WITH s AS (
                SELECT * FROM unnest(\(subjects.map { PostgresData($0.hash) }),
                                     \(subjects.map { Int32($0.free) })) AS s(subject, free)
            )
            INSERT INTO sign_in_failures AS f (subject, failures, last_at)
            SELECT subject, 1, now() FROM s
            ON CONFLICT (subject) DO UPDATE
            SET failures = CASE WHEN f.last_at < now() - interval '1 hour' THEN 1 ELSE f.failures + 1 END,
                last_at = now()
            WHERE f.last_at < now() - interval '1 hour'
               OR f.last_at < now() - CASE
                   WHEN f.failures < (SELECT s.free FROM s WHERE s.subject = f.subject)
                   THEN interval '-1 second'
                   ELSE least(interval '15 minutes', interval '1 second' * 2.0 ^ least(
                       20, f.failures - (SELECT s.free FROM s WHERE s.subject = f.subject))) END
            """, scope: .platform)
        return counted == subjects.count
    }

    /// Forgets the failures of an account that signed in, and the one that was counted for its address.
    package func endSignIn(account: [UInt8], address: [UInt8]) async throws {
        try await pool.pipeline(
            scope: .platform,
            [
                "DELETE FROM sign_in_failures WHERE subject = \(PostgresData(account))",
                """
                UPDATE sign_in_failures SET failures = greatest(0, failures - 1)
                WHERE subject = \(PostgresData(address))
                """,
            ])
    }
}
