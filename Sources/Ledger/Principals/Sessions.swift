package import Domain
import Postgres

/// A row of `sessions`: a person who has signed in. Its MAC is judged before it is believed.
package struct SessionRow: Sendable {
    /// Which session, and whose.
    package let id: SessionID
    package let user: UserID
    /// The SHA-256 of its secret.
    package var secretHash: [UInt8]
    /// What it was begun with, and from where.
    package let agent: String
    package let address: String?
    /// When it ends at the latest, and after how much time without use.
    package let expiresAt: Instant
    package let idleSeconds: Int
    /// When it was used last, to about a minute.
    package var lastSeenAt: Instant
    /// When a second factor was shown last.
    package var steppedUpAt: Instant?
    /// How often its secret was changed, from 1.
    package var version: Int
    package let createdAt: Instant
    /// The MAC.
    package var mac: RowMAC

    /// A new session, without its MAC.
    package init(
        id: SessionID, user: UserID, secretHash: [UInt8], agent: String, address: String?,
        expiresAt: Instant, idleSeconds: Int, steppedUpAt: Instant?, createdAt: Instant
    ) {
        self.id = id
        self.user = user
        self.secretHash = secretHash
        self.agent = agent
        self.address = address
        self.expiresAt = expiresAt
        self.idleSeconds = idleSeconds
        self.steppedUpAt = steppedUpAt
        self.createdAt = createdAt
        lastSeenAt = createdAt
        version = 1
        mac = RowMAC(keyID: "", code: [])
    }

    /// What the row's MAC covers under a key.
    package func sealedParts(keyID: String) -> [[UInt8]] {
        [
            Array("sessions".utf8), id.bytes, Array(keyID.utf8), Array(String(version).utf8), user.bytes,
            secretHash, expiresAt.sealedPart, Array(String(idleSeconds).utf8),
            steppedUpAt?.sealedPart ?? [],
        ]
    }
}

/// A row of `sign_in_links`: a link or code that works once. Its MAC is judged before it is believed.
package struct SignInLinkRow: Sendable {
    /// What it is good for.
    package enum Kind: Int16, Sendable {
        case invitation = 1
        case passwordReset = 2
        case deviceCode = 3
    }

    /// Which it is, and what for.
    package let id: SignInLinkID
    package let kind: Kind
    /// Whom it lets in; `nil` for a device that nobody has approved.
    package var user: UserID?
    /// The SHA-256 of its secret, and what a person types who approves a device.
    package let secretHash: [UInt8]
    package let userCode: String?
    package let agent: String?
    package let expiresAt: Instant
    package var usedAt: Instant?
    /// 1, and 2 once it was approved.
    package var version: Int
    package let createdBy: PrincipalID?
    /// The MAC.
    package var mac: RowMAC

    /// A new link, without its MAC.
    package init(
        id: SignInLinkID, kind: Kind, user: UserID?, secretHash: [UInt8], userCode: String? = nil,
        agent: String? = nil, expiresAt: Instant, createdBy: PrincipalID?
    ) {
        self.id = id
        self.kind = kind
        self.user = user
        self.secretHash = secretHash
        self.userCode = userCode
        self.agent = agent
        self.expiresAt = expiresAt
        self.createdBy = createdBy
        version = 1
        mac = RowMAC(keyID: "", code: [])
    }

    /// What the row's MAC covers under a key.
    package func sealedParts(keyID: String) -> [[UInt8]] {
        [
            Array("sign_in_links".utf8), id.bytes, Array(keyID.utf8), Array(String(version).utf8),
            [UInt8(kind.rawValue)], user?.bytes ?? [], secretHash, Array((userCode ?? "").utf8),
            expiresAt.sealedPart,
        ]
    }
}

extension SignInLinkRow.Kind: SmallintCoded {}

extension Ledger {
    // MARK: Sessions

    /// Keeps a new session.
    package func insert(_ session: SessionRow) async throws {
        try await pool.execute(
            """
            INSERT INTO sessions (id, user_id, secret_hash, agent, address, expires_at, idle_seconds,
                                  last_seen_at, stepped_up_at, mac_key, mac, created_at)
            VALUES (\(session.id), \(session.user), \(PostgresData(session.secretHash)), \(session.agent),
                    \(session.address), \(session.expiresAt), \(Int32(session.idleSeconds)),
                    \(session.lastSeenAt), \(session.steppedUpAt), \(session.mac.keyID),
                    \(PostgresData(session.mac.code)), \(session.createdAt))
            """, scope: .platform)
    }

    /// Writes a new secret or second factor, if the row is still of the version before; `false` if not.
    package func update(_ session: SessionRow) async throws -> Bool {
        try await pool.execute(
            """
            UPDATE sessions
            SET secret_hash = \(PostgresData(session.secretHash)), stepped_up_at = \(session.steppedUpAt),
                version = \(session.version), mac_key = \(session.mac.keyID),
                mac = \(PostgresData(session.mac.code))
            WHERE id = \(session.id) AND version = \(session.version) - 1
            """, scope: .platform) > 0
    }

    /// The session of a secret's hash, whatever its state.
    package func session(hash: [UInt8]) async throws -> SessionRow? {
        try await pool.query(
            """
            SELECT \(fragment: Self.sessionColumns) FROM sessions s WHERE secret_hash = \(PostgresData(hash))
            """,
            scope: .platform, decode: Self.session
        ).first
    }

    /// A session of a person.
    package func session(_ id: SessionID, of user: UserID) async throws -> SessionRow? {
        try await pool.query(
            """
            SELECT \(fragment: Self.sessionColumns) FROM sessions s WHERE id = \(id) AND user_id = \(user)
            """, scope: .platform, decode: Self.session
        ).first
    }

    /// A person's sessions, by id.
    package func sessions(of user: UserID, _ page: PageRequest) async throws -> [SessionRow] {
        try await pool.query(
            """
            SELECT \(fragment: Self.sessionColumns) FROM sessions s
            WHERE user_id = \(user) AND id > \(page.afterID) ORDER BY id LIMIT \(page.limit)
            """, scope: .platform, decode: Self.session)
    }

    /// Takes sessions of a person away: one, or all but one.
    package func deleteSessions(of user: UserID, only: SessionID? = nil, but kept: SessionID? = nil)
        async throws -> [SessionID]
    {
        try await pool.query(
            """
            DELETE FROM sessions
            WHERE user_id = \(user) AND id = coalesce(\(only), id)
              AND (\(kept)::uuid IS NULL OR id <> \(kept))
            RETURNING id
            """, scope: .platform
        ) { try $0.decode(SessionID.self) }
    }

    /// Notes when sessions were used last.
    package func noteUse(of sessions: [(id: SessionID, at: Instant)]) async throws {
        try await pool.execute(
            """
            UPDATE sessions s SET last_seen_at = u.at
            FROM unnest(\(sessions.map(\.id)), \(sessions.map(\.at))) AS u(id, at)
            WHERE s.id = u.id AND s.last_seen_at < u.at
            """, scope: .platform)
    }

    /// Takes away what has ended: sessions, links, and failures of long ago.
    package func pruneSignIns() async throws {
        try await pool.pipeline(
            scope: .platform,
            [
                """
                DELETE FROM sessions
                WHERE expires_at < now() OR last_seen_at + make_interval(secs => idle_seconds) < now()
                """, "DELETE FROM sign_in_links WHERE expires_at < now() - interval '1 day'",
                "DELETE FROM sign_in_failures WHERE last_at < now() - interval '1 day'",
            ])
    }

    private static let sessionColumns: SQL = """
        s.id, s.user_id, s.secret_hash, s.agent, s.address, s.expires_at, s.idle_seconds, s.last_seen_at,
        s.stepped_up_at, s.version, s.created_at, s.mac_key, s.mac
        """

    @Sendable private static func session(_ row: PostgresRow) throws -> SessionRow {
        let (
            id, user, hash, agent, address, expiresAt, idle, lastSeenAt, steppedUpAt, version, createdAt,
            macKey, mac
        ) = try row.decode(
            (
                SessionID, UserID, PostgresData, String, String?, Instant, Int32, Instant, Instant?, Int,
                Instant, String, PostgresData
            ).self)
        var session = SessionRow(
            id: id, user: user, secretHash: hash.bytes, agent: agent, address: address, expiresAt: expiresAt,
            idleSeconds: Int(idle), steppedUpAt: steppedUpAt, createdAt: createdAt)
        (session.lastSeenAt, session.version) = (lastSeenAt, version)
        session.mac = RowMAC(keyID: macKey, code: mac.bytes)
        return session
    }

    // MARK: Links

    /// Keeps a new link; those of its kind that the person had before work no more.
    /// - Returns: which they were.
    package func insert(_ link: SignInLinkRow) async throws -> [SignInLinkID] {
        let results = try await pool.pipeline(
            scope: .platform,
            [
                """
                UPDATE sign_in_links SET used_at = now()
                WHERE user_id = \(link.user) AND kind = \(link.kind) AND used_at IS NULL RETURNING id
                """,
                """
                INSERT INTO sign_in_links (id, kind, user_id, secret_hash, user_code, agent, expires_at,
                                           mac_key, mac, created_by)
                VALUES (\(link.id), \(link.kind), \(link.user), \(PostgresData(link.secretHash)),
                        \(link.userCode), \(link.agent), \(link.expiresAt), \(link.mac.keyID),
                        \(PostgresData(link.mac.code)), \(link.createdBy))
                """,
            ])
        return try results[0].rows.map { try $0.decode(SignInLinkID.self) }
    }

    /// The link of a secret's hash, whatever its state.
    package func signInLink(hash: [UInt8]) async throws -> SignInLinkRow? {
        try await pool.query(
            """
            SELECT \(fragment: Self.linkColumns) FROM sign_in_links l
            WHERE secret_hash = \(PostgresData(hash))
            """, scope: .platform, decode: Self.link
        ).first
    }

    /// The link that a person approves by its code, whatever its state.
    package func signInLink(userCode: String) async throws -> SignInLinkRow? {
        try await pool.query(
            "SELECT \(fragment: Self.linkColumns) FROM sign_in_links l WHERE user_code = \(userCode)",
            scope: .platform, decode: Self.link
        ).first
    }

    /// Writes who has approved a device, if nobody had; `false` if somebody had.
    package func approve(_ link: SignInLinkRow) async throws -> Bool {
        try await pool.execute(
            """
            UPDATE sign_in_links
            SET user_id = \(link.user), version = \(link.version), mac_key = \(link.mac.keyID),
                mac = \(PostgresData(link.mac.code))
            WHERE id = \(link.id) AND version = \(link.version) - 1 AND used_at IS NULL
            """, scope: .platform) > 0
    }

    /// Uses a link; `false` if it was used already.
    package func useSignInLink(_ id: SignInLinkID) async throws -> Bool {
        try await pool.execute(
            "UPDATE sign_in_links SET used_at = now() WHERE id = \(id) AND used_at IS NULL", scope: .platform)
            > 0
    }

    /// The links of a kind by which a person may still be let in.
    package func openSignInLinks(
        of user: UserID, _ kind: SignInLinkRow.Kind
    ) async throws -> [SignInLinkID] {
        try await pool.query(
            """
            SELECT id FROM sign_in_links
            WHERE user_id = \(user) AND kind = \(kind) AND used_at IS NULL AND expires_at > now()
            """, scope: .platform
        ) { try $0.decode(SignInLinkID.self) }
    }

    /// Uses up all links of a person, and says which they were.
    package func useSignInLinks(of user: UserID) async throws -> [SignInLinkID] {
        try await pool.query(
            """
            UPDATE sign_in_links SET used_at = now() WHERE user_id = \(user) AND used_at IS NULL RETURNING id
            """, scope: .platform
        ) { try $0.decode(SignInLinkID.self) }
    }

    private static let linkColumns: SQL = """
        l.id, l.kind, l.user_id, l.secret_hash, l.user_code, l.agent, l.expires_at, l.used_at, l.version,
        l.created_by, l.mac_key, l.mac
        """

    @Sendable private static func link(_ row: PostgresRow) throws -> SignInLinkRow {
        let (
            id, kind, user, hash, userCode, agent, expiresAt, usedAt, version, createdBy, macKey, mac
        ) = try row.decode(
            (
                SignInLinkID, SignInLinkRow.Kind, UserID?, PostgresData, String?, String?, Instant, Instant?,
                Int, PrincipalID?, String, PostgresData
            ).self)
        var link = SignInLinkRow(
            id: id, kind: kind, user: user, secretHash: hash.bytes, userCode: userCode, agent: agent,
            expiresAt: expiresAt, createdBy: createdBy)
        (link.usedAt, link.version) = (usedAt, version)
        link.mac = RowMAC(keyID: macKey, code: mac.bytes)
        return link
    }
}
