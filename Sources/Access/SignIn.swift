package import Domain
package import Ledger
import Outbound
import Postgres
package import Trust

/// Signs people in: by password and second factor, by invitation, by a link for a new password, or by a
/// device's code that somebody approves.
///
/// An account that does not exist, one that is disabled and a wrong password get one answer, after the same
/// time. Every row that lets somebody in is believed only under its MAC.
package struct SignIn: Sendable {
    /// How long a session lasts at the most, and how long without use: of a browser, and of the command line.
    package static let browser = (lifetime: Duration.seconds(12 * 3_600), idle: 1_800)
    package static let commandLine = (lifetime: Duration.seconds(30 * 86_400), idle: 7 * 86_400)
    /// How long a second factor counts as fresh.
    package static let freshness = Duration.seconds(300)
    /// How long links work: an invitation, one for a new password, a device's code.
    package static let invitationLifetime = Duration.seconds(7 * 86_400)
    package static let resetLifetime = Duration.seconds(3_600)
    package static let deviceLifetime = Duration.seconds(600)
    /// How many failures are free: of an account, and of an address.
    static let accountFailuresFree = 5
    static let addressFailuresFree = 20

    let authenticator: Authenticator
    let sealing: SealingKeys
    private let work = PasswordWork()

    /// Signs in by the authenticator's rows and clock; authenticators' secrets are sealed with `sealing`.
    package init(_ authenticator: Authenticator, sealing: SealingKeys) {
        self.authenticator = authenticator
        self.sealing = sealing
    }

    private var ledger: Ledger { authenticator.ledger }
    private var seals: RowSeals { authenticator.seals }

    /// Whence and with what somebody signs in.
    package struct Origin: Sendable {
        /// What the person uses, for lists; and from where.
        package let agent: String
        package let address: String?
        /// Whether the session is the command line's, which lasts longer.
        package let isCommandLine: Bool

        /// An origin.
        package init(agent: String, address: String?, isCommandLine: Bool) {
            self.agent = agent
            self.address = address
            self.isCommandLine = isCommandLine
        }
    }

    // MARK: Sessions

    /// Begins a session for who knows the password and, where there is one, shows the second factor.
    /// - Throws: `unauthorized` for whatever does not hold, `secondFactorRequired` where only that is
    ///   missing, `throttled` after too many failures.
    package func begin(
        email: String, password: String, code: String?, _ origin: Origin
    ) async throws -> (row: SessionRow, secret: String) {
        let time = authenticator.now()
        try await authenticator.revocations.refresh(at: time)
        let account = SHA256.hash(Array("account \(email.lowercased())".utf8))
        let address = Self.subject("address", origin.address)
        // The address first: who is refused by it leaves nothing at the account.
        guard try await ledger.beginSignIn([(address, Self.addressFailuresFree)]),
            try await ledger.beginSignIn([(account, Self.accountFailuresFree)])
        else { throw AccessError.throttled }
        guard let (user, credentials) = try await whose(email: email, password: password, at: time) else {
            throw AccessError.notSignedIn
        }
        let hasFactor = credentials.isConfirmed && credentials.sealed != nil
        if hasFactor {
            guard let code else {
                // The password was right: that is no failure, and the code comes with the next attempt.
                try await ledger.endSignIn(account: account, address: address)
                throw AccessError.secondFactorRequired
            }
            guard try await takes(code, credentials, at: time) else { throw AccessError.notSignedIn }
        }
        try await ledger.endSignIn(account: account, address: address)
        try await renew(credentials.user, at: time)
        return try await begin(user.id, origin, steppedUpAt: hasFactor ? time : nil, at: time)
    }

    /// What failures from an address are counted by: the network that one caller has.
    static func subject(_ what: String, _ address: String?) -> [UInt8] {
        let network = address.flatMap(AddressGuard.network)
        return SHA256.hash(Array("\(what) ".utf8) + (network ?? Array((address ?? "-").utf8)))
    }

    /// Whether somebody has shown a second factor; `false` where there is none to be shown.
    /// - Throws: `secondFactorRequired` without a code, `unauthorized` for one that does not hold, or
    ///   credentials that were altered.
    func showsSecondFactor(of user: UserID, code: String?, at time: Instant) async throws -> Bool {
        guard let credentials = try await ledger.credentials(of: user) else { return false }
        guard holds(credentials, at: time) else { throw AccessError.notSignedIn }
        guard credentials.isConfirmed, credentials.sealed != nil else { return false }
        guard let code else { throw AccessError.secondFactorRequired }
        guard try await takes(code, credentials, at: time) else { throw AccessError.notSignedIn }
        return true
    }

    /// Who has this address and this password; one comparison at least, whoever there is.
    private func whose(
        email: String, password: String, at time: Instant
    ) async throws -> (UserRow, CredentialsRow)? {
        let bytes = Array(password.utf8)
        var candidates: [(UserRow, CredentialsRow, PasswordHash)] = []
        for user in try await ledger.users(email: email.lowercased(), limit: Rights.accountsMax) {
            guard holds(user, at: time), user.state == .active,
                let credentials = try await ledger.credentials(of: user.id), holds(credentials, at: time),
                let text = credentials.passwordHash
            else { continue }
            candidates.append((user, credentials, try PasswordHash(text)))
        }
        let hashes = candidates.isEmpty ? [PasswordHash.dummy] : candidates.map(\.2)
        let matches = try await work.run { try hashes.map { try $0.verifies(bytes) } }
        guard let index = matches.firstIndex(of: true), !candidates.isEmpty else { return nil }
        return (candidates[index].0, candidates[index].1)
    }

    /// Gives credentials in use a new term once half of theirs is over.
    private func renew(_ user: UserID, at time: Instant) async throws {
        guard var credentials = try await ledger.credentials(of: user), holds(credentials, at: time),
            credentials.expiresAt < time + Rights.lifetime / 2
        else { return }
        credentials.expiresAt = time + Rights.lifetime
        credentials.mac = seals.seal(credentials.sealedParts)
        try await ledger.renew(credentials)
    }

    func begin(
        _ user: UserID, _ origin: Origin, steppedUpAt: Instant?, at time: Instant
    ) async throws -> (row: SessionRow, secret: String) {
        let secret = OpaqueSecret(.session)
        let limits = origin.isCommandLine ? Self.commandLine : Self.browser
        var row = SessionRow(
            id: .new(at: time), user: user, secretHash: secret.hash, agent: origin.agent,
            address: origin.address, expiresAt: time + limits.lifetime, idleSeconds: limits.idle,
            steppedUpAt: steppedUpAt, createdAt: time)
        row.mac = seals.seal(row.sealedParts)
        try await ledger.insert(row)
        return (row, secret.text)
    }

    /// Shows the second factor again: the session gets another secret, and counts as fresh for a while.
    package func stepUp(_ session: SessionID, of user: UserID, code: String) async throws
        -> (row: SessionRow, secret: String)
    {
        let time = authenticator.now()
        guard var row = try await ledger.session(session, of: user), seals.holds(row.mac, row.sealedParts)
        else {
            throw AccessError.unauthorized
        }
        let account = SHA256.hash(Array("step up \(user)".utf8))
        guard try await ledger.beginSignIn([(account, Self.accountFailuresFree)]) else {
            throw AccessError.throttled
        }
        guard let credentials = try await ledger.credentials(of: user), holds(credentials, at: time),
            credentials.isConfirmed, try await takes(code, credentials, at: time)
        else { throw AccessError.notSignedIn }
        try await ledger.endSignIn(account: account, address: account)
        let secret = OpaqueSecret(.session)
        (row.secretHash, row.steppedUpAt) = (secret.hash, time)
        row.version += 1
        row.mac = seals.seal(row.sealedParts)
        guard try await ledger.update(row) else { throw AccessError.changedMeanwhile }
        try await authenticator.revocations.revoke(row.id.value, below: row.version, at: time)
        authenticator.forget()
        return (row, secret.text)
    }

    /// A person's sessions.
    package func sessions(of user: UserID, _ page: PageRequest) async throws -> [SessionRow] {
        try await ledger.sessions(of: user, page)
    }

    /// Ends one of a person's sessions.
    package func end(_ session: SessionID, of user: UserID) async throws {
        guard try await ledger.session(session, of: user) != nil else { throw AccessError.nothingHere }
        try await end(of: user, only: session)
    }

    private func end(of user: UserID, only: SessionID? = nil, but kept: SessionID? = nil) async throws {
        let time = authenticator.now()
        for ended in try await ledger.deleteSessions(of: user, only: only, but: kept) {
            try await authenticator.revocations.revoke(ended.value, at: time)
        }
        authenticator.forget()
    }

    // MARK: Second factor

    /// Makes a secret for an authenticator app; it counts once a code of it has been shown.
    package func beginTOTP(of user: UserID) async throws -> (secret: String, uri: String) {
        let time = authenticator.now()
        guard let person = try await ledger.user(user, scope: .platform) else {
            throw AccessError.unauthorized
        }
        var credentials = try await own(user, at: time)
        guard !credentials.isConfirmed else {
            throw AccessError(.conflict, "there is a second factor already: take it away first")
        }
        let totp = TOTP()
        credentials.version += 1
        credentials.sealed = try sealing.seal(totp.secret, for: Self.label(user, credentials.version)).bytes
        try await write(&credentials, at: time)
        return (
            Base32.encode(totp.secret.copy()), totp.uri(issuer: "CloudRMM", account: person.email)
        )
    }

    /// Shows a first code: the second factor is asked for from then on. Returns the codes that let in who has
    /// lost it, each once.
    package func confirmTOTP(of user: UserID, code: String) async throws -> [String] {
        let time = authenticator.now()
        var credentials = try await own(user, at: time)
        guard credentials.sealed != nil, !credentials.isConfirmed else {
            throw AccessError(.conflict, "there is no second factor to be confirmed: begin one first")
        }
        guard let taken = try await takingTOTP(code, credentials, at: time) else {
            throw AccessError(.invalid, field: "code", "is not the code of now")
        }
        credentials = taken
        let codes = RecoveryCode.newSet()
        try reseal(&credentials)
        credentials.isConfirmed = true
        credentials.recoveryHashes = codes.map(\.hash)
        try await write(&credentials, at: time)
        return codes.map(\.text)
    }

    /// Takes the second factor away; a code of it has to be shown.
    package func endTOTP(of user: UserID, code: String) async throws {
        let time = authenticator.now()
        var credentials = try await own(user, at: time)
        guard credentials.isConfirmed else { throw AccessError(.conflict, "there is no second factor") }
        let account = SHA256.hash(Array("step up \(user)".utf8))
        guard try await ledger.beginSignIn([(account, Self.accountFailuresFree)]) else {
            throw AccessError.throttled
        }
        guard try await takes(code, credentials, at: time) else {
            throw AccessError(.invalid, field: "code", "is not the code of now, nor one for recovery")
        }
        credentials = try await own(user, at: time)
        credentials.version += 1
        (credentials.sealed, credentials.isConfirmed, credentials.recoveryHashes) = (nil, false, [])
        try await write(&credentials, at: time)
    }

    static func label(_ user: UserID, _ version: Int) -> SecretLabel {
        SecretLabel(kind: .totp, name: user.description, version: Int64(version))
    }

    /// Seals the authenticator's secret for the row's next version.
    private func reseal(_ credentials: inout CredentialsRow) throws {
        let before = credentials.version
        credentials.version += 1
        guard let bytes = credentials.sealed else { return }
        let secret = try sealing.open(
            SealedSecret(bytes: bytes), for: Self.label(credentials.user, before))
        credentials.sealed = try sealing.seal(
            secret, for: Self.label(credentials.user, credentials.version)
        ).bytes
    }

    /// Whether a code is the authenticator's of now, or one for recovery, which is used up by it.
    private func takes(_ code: String, _ credentials: CredentialsRow, at time: Instant) async throws -> Bool {
        if try await takingTOTP(code, credentials, at: time) != nil { return true }
        guard let recovery = RecoveryCode(code),
            let index = recovery.index(among: credentials.recoveryHashes)
        else { return false }
        var left = credentials
        left.recoveryHashes.remove(at: index)
        try reseal(&left)
        left.mac = seals.seal(left.sealedParts)
        // Of two who bring the same code at once, one is let in.
        guard try await ledger.write(left) else { return false }
        try await authenticator.revocations.revoke(
            left.user.value.credentials, below: left.version, at: time)
        return true
    }

    /// The credentials after a code of the authenticator, which is taken by it; `nil` if it is none of now,
    /// or was taken.
    private func takingTOTP(
        _ code: String, _ credentials: CredentialsRow, at time: Instant
    ) async throws -> CredentialsRow? {
        guard let bytes = credentials.sealed else { return nil }
        let secret = try sealing.open(
            SealedSecret(bytes: bytes), for: Self.label(credentials.user, credentials.version))
        let last = Int64(credentials.lastStep)
        guard let step = try TOTP(secret: secret).verify(code, at: time, lastAcceptedStep: last) else {
            return nil
        }
        var taken = credentials
        taken.lastStep = Int(step)
        taken.mac = seals.seal(taken.sealedParts)
        return try await ledger.takeStep(taken, after: credentials.lastStep) ? taken : nil
    }

    // MARK: Passwords

    /// Gives oneself another password; the other sessions end.
    package func changePassword(
        of user: UserID, from old: String, to new: String, keeping session: SessionID
    ) async throws {
        let time = authenticator.now()
        guard let person = try await ledger.user(user, scope: .platform) else {
            throw AccessError.unauthorized
        }
        let account = SHA256.hash(Array("password \(user)".utf8))
        guard try await ledger.beginSignIn([(account, Self.accountFailuresFree)]) else {
            throw AccessError.throttled
        }
        let credentials = try await own(user, at: time)
        guard let text = credentials.passwordHash else { throw AccessError.notSignedIn }
        let (hash, bytes) = (try PasswordHash(text), Array(old.utf8))
        guard try await work.run({ try hash.verifies(bytes) }) else {
            throw AccessError(.invalid, field: "current", "is not your password")
        }
        try await ledger.endSignIn(account: account, address: account)
        try await setPassword(new, of: person, credentials, at: time)
        try await end(of: user, but: session)
    }

    private func setPassword(
        _ password: String, of user: UserRow, _ credentials: CredentialsRow, at time: Instant
    ) async throws {
        let bytes = Array(password.utf8)
        if let refusal = PasswordPolicy.refusal(of: bytes, email: user.email) {
            throw AccessError(.invalid, field: "password", refusal.reason)
        }
        var credentials = credentials
        try reseal(&credentials)
        credentials.passwordHash = try await work.run { try PasswordHash(of: bytes).encoded }
        try await write(&credentials, at: time)
    }

    // MARK: Links

    /// Makes the link by which a person who was invited sets a first password; shown once.
    package func invite(_ user: UserID, by caller: Principal) async throws -> (secret: String, until: Instant)
    {
        try await link(.invitation, .invitation, for: user, by: caller, lifetime: Self.invitationLifetime) {
            $0 == .invited
        }
    }

    /// Makes the link by which a person sets a new password; shown once.
    package func resetPassword(
        of user: UserID, by caller: Principal
    ) async throws -> (secret: String, until: Instant) {
        try await link(.passwordReset, .resetLink, for: user, by: caller, lifetime: Self.resetLifetime) {
            $0 == .active
        }
    }

    private func link(
        _ kind: SignInLinkRow.Kind, _ prefix: OpaqueSecret.Kind, for user: UserID, by caller: Principal,
        lifetime: Duration, _ fits: (UserState) -> Bool
    ) async throws -> (secret: String, until: Instant) {
        let time = authenticator.now()
        let level = try caller.require(.usersWrite)
        try caller.requireLasting()
        guard let person = try await ledger.user(user, scope: level.scope) else {
            throw AccessError.nothingHere
        }
        guard holds(person, at: time) else {
            throw AccessError(
                .alteredRow, "the row of this person was altered outside the API or has expired")
        }
        guard fits(person.state) else {
            throw AccessError(.conflict, "the person is \(person.state.name), which this is not for")
        }
        // Who sets somebody's password is that person: nobody becomes somebody who may do more.
        try await RoleMaker(authenticator).requireAll(of: person, by: caller)
        let secret = OpaqueSecret(prefix)
        var row = SignInLinkRow(
            id: .new(at: time), kind: kind, user: user, secretHash: secret.hash, expiresAt: time + lifetime,
            createdBy: caller.maker)
        row.mac = seals.seal(row.sealedParts)
        // The new one takes the place of those before, whoever clears the mark that they were used.
        let before = try await ledger.openSignInLinks(of: user, kind)
        for link in before { try await authenticator.revocations.revoke(link.value, at: time) }
        // And of those that somebody made meanwhile.
        for link in try await ledger.insert(row) where !before.contains(link) {
            try await authenticator.revocations.revoke(link.value, at: time)
        }
        return (secret.text, row.expiresAt)
    }

    /// Takes an invitation, or a link for a new password: sets the password, once. All sessions end.
    package func acceptLink(_ text: String, password: String) async throws -> UserRow {
        let time = authenticator.now()
        try await authenticator.revocations.refresh(at: time)
        let secret = OpaqueSecret(.invitation, text: text) ?? OpaqueSecret(.resetLink, text: text)
        guard let secret, let link = try await ledger.signInLink(hash: secret.hash), holds(link, at: time),
            link.kind == (secret.kind == .invitation ? .invitation : .passwordReset), let id = link.user,
            var user = try await ledger.user(id, scope: .platform), holds(user, at: time),
            user.state != .disabled
        else { throw AccessError.badLink }
        let bytes = Array(password.utf8)
        if let refusal = PasswordPolicy.refusal(of: bytes, email: user.email) {
            throw AccessError(.invalid, field: "password", refusal.reason)
        }
        // Before the link is used up, since it may have to be tried again.
        let hash = try await work.run { try PasswordHash(of: bytes).encoded }
        try await authenticator.revocations.revoke(link.id.value, at: time)
        guard try await ledger.useSignInLink(link.id) else { throw AccessError.badLink }
        var credentials =
            try await ledger.credentials(of: id)
            ?? CredentialsRow(user: id, expiresAt: time + Rights.lifetime)
        guard credentials.version == 0 || seals.holds(credentials.mac, credentials.sealedParts) else {
            throw AccessError.badLink
        }
        try reseal(&credentials)
        credentials.passwordHash = hash
        try await write(&credentials, at: time)
        if user.state == .invited {
            user.state = .active
            user.version += 1
            user.expiresAt = time + Rights.lifetime
            user.mac = seals.seal(user.sealedParts)
            guard try await ledger.update(user, scope: .platform) else { throw AccessError.changedMeanwhile }
        }
        try await end(of: id)
        return user
    }

    // MARK: Devices' codes (RFC 8628)

    /// Begins the sign-in of a command line: what it keeps, and what a person types who approves it.
    package func beginDevice(agent: String, address: String?) async throws -> (
        secret: String, userCode: String, until: Instant
    ) {
        let time = authenticator.now()
        // Each counts as a failure: an address has so many an hour free, and then has to wait.
        let subject = Self.subject("device codes", address)
        guard try await ledger.beginSignIn([(subject, Self.addressFailuresFree)]) else {
            throw AccessError.throttled
        }
        let secret = OpaqueSecret(.deviceCode)
        // Without letters that are taken for others, and without vowels, so that no words come about.
        let letters = Array("BCDFGHJKLMNPQRSTVWXZ")
        var characters: [Character] = []
        while characters.count < 8 {
            // 240 is the largest multiple of 20 in a byte: no letter is likelier than another.
            for byte in randomBytes(16) where byte < 240 && characters.count < 8 {
                characters.append(letters[Int(byte) % letters.count])
            }
        }
        let userCode = String(characters[..<4]) + "-" + String(characters[4...])
        var row = SignInLinkRow(
            id: .new(at: time), kind: .deviceCode, user: nil, secretHash: secret.hash, userCode: userCode,
            agent: agent, expiresAt: time + Self.deviceLifetime, createdBy: nil)
        row.mac = seals.seal(row.sealedParts)
        _ = try await ledger.insert(row)
        return (secret.text, userCode, row.expiresAt)
    }

    /// Approves a device's code: it will sign in as this person.
    package func approveDevice(_ userCode: String, by user: UserID) async throws {
        let time = authenticator.now()
        let account = SHA256.hash(Array("device codes \(user)".utf8))
        guard try await ledger.beginSignIn([(account, Self.accountFailuresFree)]) else {
            throw AccessError.throttled
        }
        guard var link = try await ledger.signInLink(userCode: userCode.uppercased()), holds(link, at: time),
            link.kind == .deviceCode, link.user == nil
        else { throw AccessError.badLink }
        link.user = user
        link.version += 1
        link.mac = seals.seal(link.sealedParts)
        guard try await ledger.approve(link) else { throw AccessError.badLink }
        try await ledger.endSignIn(account: account, address: account)
    }

    /// Begins the session of a device whose code was approved.
    /// - Throws: `approvalPending` as long as nobody has approved it.
    package func finishDevice(_ text: String, _ origin: Origin) async throws -> (
        row: SessionRow, secret: String
    ) {
        let time = authenticator.now()
        try await authenticator.revocations.refresh(at: time)
        guard let secret = OpaqueSecret(.deviceCode, text: text),
            let link = try await ledger.signInLink(hash: secret.hash), holds(link, at: time),
            link.kind == .deviceCode
        else { throw AccessError.badLink }
        guard let user = link.user else { throw AccessError.approvalPending }
        try await authenticator.revocations.revoke(link.id.value, at: time)
        guard try await ledger.useSignInLink(link.id) else { throw AccessError.badLink }
        return try await begin(user, origin, steppedUpAt: nil, at: time)
    }

    // MARK: Rows

    private func holds(_ user: UserRow, at time: Instant) -> Bool {
        seals.holds(user.mac, user.sealedParts) && user.expiresAt > time
            && !authenticator.revocations.isVoid(user.id.value, version: user.version)
    }

    private func holds(_ credentials: CredentialsRow, at time: Instant) -> Bool {
        seals.holds(credentials.mac, credentials.sealedParts) && credentials.expiresAt > time
            && !authenticator.revocations.isVoid(
                credentials.user.value.credentials, version: credentials.version)
    }

    private func holds(_ link: SignInLinkRow, at time: Instant) -> Bool {
        seals.holds(link.mac, link.sealedParts) && link.expiresAt > time && link.usedAt == nil
            && !authenticator.revocations.isVoid(link.id.value, version: link.version)
    }

    /// A person's credentials, to be changed.
    private func own(_ user: UserID, at time: Instant) async throws -> CredentialsRow {
        guard let credentials = try await ledger.credentials(of: user) else {
            throw AccessError(.conflict, "you have no password here: you sign in elsewhere")
        }
        guard holds(credentials, at: time) else {
            throw AccessError(
                .alteredRow, "what you sign in with was altered outside the API, or has expired")
        }
        return credentials
    }

    /// Writes credentials whose version was counted up; those before count for nothing from then on.
    private func write(_ credentials: inout CredentialsRow, at time: Instant) async throws {
        credentials.expiresAt = time + Rights.lifetime
        credentials.mac = seals.seal(credentials.sealedParts)
        guard try await ledger.write(credentials) else { throw AccessError.changedMeanwhile }
        guard credentials.version > 1 else { return }
        try await authenticator.revocations.revoke(
            credentials.user.value.credentials, below: credentials.version, at: time)
    }
}

extension UniqueID {
    /// Names a person's credentials in the list of revocations, where the person's own row has this id.
    fileprivate var credentials: UniqueID {
        UniqueID(high: high, low: low ^ 0x0000_0000_0000_0001)
    }
}
