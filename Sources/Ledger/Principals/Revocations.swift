package import Domain
import Postgres

/// A row of `revocations`, a list that only grows; each MAC covers the one before it.
package struct RevocationRow: Sendable {
    /// Its place in the list, from 1.
    package let sequence: Int
    /// What was revoked: a key, a session, a person, a role, a binding, an enrolment token, a device.
    package let subject: UniqueID
    /// Rows of the subject with a lower version grant nothing.
    package let below: Int
    /// Until when it matters: the end of what was revoked.
    package let until: Instant
    /// The MAC.
    package let mac: RowMAC

    /// A row.
    package init(sequence: Int, subject: UniqueID, below: Int, until: Instant, mac: RowMAC) {
        self.sequence = sequence
        self.subject = subject
        self.below = below
        self.until = until
        self.mac = mac
    }
}

extension Ledger {
    /// The list from a place on, in order.
    package func revocations(after sequence: Int, limit: Int) async throws -> [RevocationRow] {
        try await pool.query(
            """
            SELECT sequence, subject, below, until, mac_key, mac FROM revocations
            WHERE sequence > \(sequence) ORDER BY sequence LIMIT \(limit)
            """, scope: .platform
        ) { row in
            let (sequence, subject, below, until, keyID, mac) = try row.decode(
                (Int, ID<Subject.Principal>, Int, Instant, String, PostgresData).self)
            return RevocationRow(
                sequence: sequence, subject: subject.value, below: below, until: until,
                mac: RowMAC(keyID: keyID, code: mac.bytes))
        }
    }

    /// Adds a row at the end; `false` if somebody has taken its place.
    package func append(_ revocation: RevocationRow) async throws -> Bool {
        try await pool.execute(
            """
            INSERT INTO revocations (sequence, subject, below, until, mac_key, mac)
            SELECT \(revocation.sequence), \(ID<Subject.Principal>(revocation.subject)), \(revocation.below),
                   \(revocation.until), \(revocation.mac.keyID),
                   \(PostgresData(revocation.mac.code))
            WHERE \(revocation.sequence) = 1
               OR EXISTS (SELECT FROM revocations WHERE sequence = \(revocation.sequence) - 1)
            ON CONFLICT (sequence) DO NOTHING
            """, scope: .platform) > 0
    }
}
