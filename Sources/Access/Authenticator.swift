package import Domain
package import Ledger
import Postgres
import Synchronization
package import Trust

/// Judges credentials: who is calling, and what they may do where.
///
/// A row is believed only if its MAC holds, whose key is not in PostgreSQL: an owner of the database can
/// delete a key, not make or widen one. Judged principals are remembered for `cacheSeconds`, so a revocation
/// holds after at most that time; refusals are not remembered.
package final class Authenticator: Sendable {
    /// How long a judged key is believed without another look at its row.
    package static let cacheSeconds = 5
    /// How many judged keys are remembered.
    package static let cachedMax = 10_000

    private struct Judged {
        let principal: Principal
        let until: Instant
    }

    let ledger: Ledger
    let seals: RowSeals
    let judge: EdgeJudge
    let now: @Sendable () -> Instant
    /// What was revoked before its end.
    package let revocations: Revocations
    /// The keys of other issuers; without them no token is believed.
    let issuers: OIDCKeys?
    /// Hears of each token that is refused by its code; callers are not told.
    let onTokenRefusal: @Sendable (String) -> Void
    /// How far one act may reach.
    package let guards: Guards
    private let judged = Mutex<[[UInt8]: Judged]>([:])
    private let uses = Mutex<(keys: [APIKeyID: Instant], sessions: [SessionID: Instant])>(([:], [:]))

    /// Judges rows by `seals` and their levels by `judge`; `now` is the clock that expiry is judged by, and
    /// `store` keeps the head of the list of revocations. Tokens of other issuers are believed by the keys of
    /// `issuers`, none without; `onTokenRefusal` is told the code of each that is refused.
    package init(
        ledger: Ledger, seals: RowSeals, judge: EdgeJudge, store: Revocations.Store,
        issuers: OIDCKeys? = nil, onTokenRefusal: @escaping @Sendable (String) -> Void = { _ in },
        now: @escaping @Sendable () -> Instant = { .now() }
    ) {
        self.ledger = ledger
        self.seals = seals
        self.judge = judge
        self.now = now
        self.issuers = issuers
        self.onTokenRefusal = onTokenRefusal
        revocations = Revocations(ledger: ledger, seals: seals, store: store)
        guards = Guards(ledger: ledger, seals: seals, judge: judge, revocations: revocations, now: now)
    }

    var rights: Rights { Rights(ledger: ledger, seals: seals, judge: judge, revocations: revocations) }

    // MARK: Judging

    /// The principal of a key's or a session's text, or of a token of another issuer, which has two dots.
    /// - Throws: `AccessError.unauthorized` for every one that does not hold, and the database's errors.
    package func principal(of credential: String) async throws -> Principal {
        if Self.isToken(credential) { return try await principal(ofToken: credential) }
        let session = OpaqueSecret(.session, text: credential)
        guard let hash = session?.hash ?? APIKeySecret(credential)?.hash else {
            throw AccessError.unauthorized
        }
        let time = now()
        if let known = remembered(hash, at: time) { return known }
        try await revocations.refresh(at: time)
        let found =
            session == nil ? try await ofKey(hash, at: time) : try await ofSession(hash, at: time)
        guard let principal = found else {
            remember(nil, of: hash, at: time)
            throw AccessError.unauthorized
        }
        remember(principal, of: hash, at: time)
        return principal
    }

    /// What was judged of a credential within the last seconds.
    func remembered(_ hash: [UInt8], at time: Instant) -> Principal? {
        judged.withLock { $0[hash] }.flatMap { $0.until > time ? $0.principal : nil }
    }

    /// Remembers what was judged of a credential, or forgets it.
    func remember(_ principal: Principal?, of hash: [UInt8], at time: Instant) {
        judged.withLock { judged in
            guard let principal else {
                judged[hash] = nil
                return
            }
            if judged.count >= Self.cachedMax { judged.removeAll(keepingCapacity: true) }
            judged[hash] = Judged(
                principal: principal, until: min(principal.expiresAt, time + .seconds(Self.cacheSeconds)))
        }
    }

    private func ofKey(_ hash: [UInt8], at time: Instant) async throws -> Principal? {
        guard let row = try await ledger.apiKey(hash: hash), Self.opens(row, hash, at: time),
            let principal = try await rights.principal(of: row, at: time)
        else { return nil }
        uses.withLock { $0.keys[row.id] = time }
        return principal
    }

    private func ofSession(_ hash: [UInt8], at time: Instant) async throws -> Principal? {
        guard let row = try await ledger.session(hash: hash), seals.holds(row.mac, row.sealedParts),
            row.expiresAt > time, row.lastSeenAt + .seconds(row.idleSeconds) > time,
            !revocations.isVoid(row.id.value, version: row.version),
            let user = try await ledger.user(row.user, scope: .platform),
            let held = try await rights.reach(of: user, at: time),
            let reach = try await rights.inUse(held)
        else { return nil }
        uses.withLock { $0.sessions[row.id] = time }
        let id = PrincipalID(user.id.value)
        return Principal(
            kind: .user, id: id, maker: id, reach: reach, expiresAt: row.expiresAt, lifetimeOfMade: nil,
            session: row.id, steppedUpAt: row.steppedUpAt)
    }

    /// A principal by what the audit log knows of it, judged as of now and without its secret; `nil` if it
    /// may do nothing any more. It is what acts in somebody's name later on: it has no session.
    func principal(_ kind: Principal.Kind, _ id: PrincipalID) async throws -> Principal? {
        let time = now()
        try await revocations.refresh(at: time)
        switch kind {
        case .key:
            guard let row = try await ledger.apiKey(APIKeyID(id.value), scope: .platform) else { return nil }
            return try await rights.principal(of: row, at: time)
        case .user:
            guard let user = try await ledger.user(UserID(id.value), scope: .platform),
                let reach = try await rights.reach(of: user, at: time)
            else { return nil }
            return Principal(
                kind: .user, id: id, maker: id, reach: reach, expiresAt: user.expiresAt, lifetimeOfMade: nil)
        }
    }

    /// Whether this is the key's secret, or the one before the last rotation while that is still good.
    private static func opens(_ row: APIKeyRow, _ hash: [UInt8], at time: Instant) -> Bool {
        if row.keyHash == hash { return true }
        guard row.previousHash == hash, let end = row.previousExpiresAt else { return false }
        return end > time
    }

    /// Forgets what was judged, so that a change made here holds at once.
    package func forget() { judged.withLock { $0.removeAll(keepingCapacity: true) } }

    /// Writes when keys and sessions were used last and takes away what has ended, about once a minute, until
    /// it is cancelled; `onFailure` hears of what cannot be written, which is tried again at the next use.
    package func keepUp(onFailure: @Sendable (any Error) -> Void) async throws {
        while true {
            try await Task.sleep(for: .seconds(60))
            do { try await noteUses() } catch { onFailure(error) }
        }
    }

    /// Writes when keys and sessions were used last, and takes away what has ended.
    package func noteUses() async throws {
        let used = uses.withLock { uses in
            defer { uses = ([:], [:]) }
            return uses
        }
        if !used.keys.isEmpty {
            try await ledger.noteUse(of: used.keys.map { (id: $0.key, at: $0.value) })
        }
        if !used.sessions.isEmpty {
            try await ledger.noteUse(of: used.sessions.map { (id: $0.key, at: $0.value) })
        }
        try await ledger.pruneSignIns()
    }
}
