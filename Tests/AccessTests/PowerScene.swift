import Domain
import Ledger
import Postgres
import Synchronization
import TestSupport
import Testing
import Trust

@testable import Access

/// Two people of one organization: Ann, who has a role that was made there, and Bob, who only reads. And what
/// a thief knows who writes the database.
struct PowerScene {
    /// A person with a session and a second factor.
    struct Person {
        let user: UserID
        let session: SessionID
        let secret: String
        let password: String
        let totp: TOTP
    }

    /// With what somebody comes.
    enum Bearer {
        /// With what opens the row as it was made.
        case owner
        /// With a secret of the thief's, whose hash the edit has put into the row.
        case thief
        /// With the row's own secret, as that of another kind, which the edit has put into the row.
        case otherKind
    }

    let database: TestDatabase
    let clock: ManualClock
    let authenticator: Authenticator
    let signIn: SignIn
    let roles: RoleMaker
    let admin: Principal
    let partner: PartnerID
    let organization: OrganizationID
    let ann: Person
    let bob: Person
    let strong: RoleRow
    let weak: RoleRow
    let key: (row: APIKeyRow, secret: String)
    /// The link or code that was made last.
    let link = OneText()

    static let thiefPassword = "staple battery horse"
    static let thiefHash: String = {
        do { return try PasswordHash(of: Array(thiefPassword.utf8)).encoded } catch { fatalError("\(error)") }
    }()
    static let thiefSession = OpaqueSecret(.session)
    static let thiefReset = OpaqueSecret(.resetLink)
    static let thiefDevice = OpaqueSecret(.deviceCode)
    static let thiefKey = APIKeySecret()
    private static let origin = SignIn.Origin(agent: "test", address: "192.0.2.1", isCommandLine: true)

    static func with(_ body: (PowerScene) async throws -> Void) async throws {
        try await TestDatabase.with { database in try await body(PowerScene(database)) }
    }

    private init(_ database: TestDatabase) async throws {
        let clock = ManualClock()
        let authenticator = database.authenticator { clock.now }
        (self.database, self.clock, self.authenticator) = (database, clock, authenticator)
        signIn = try TestDatabase.signIn(authenticator)
        roles = RoleMaker(authenticator)
        admin = Believing.principal(.platform, Permission.all, clock.now)
        partner = ID(try await database.tenants.createPartner(name: "p", level: .platform).id)
        organization = ID(
            try await database.tenants.createOrganization(partner: partner, name: "o", level: .platform).id)
        _ = try await authenticator.guards.edit(partner, version: nil, by: admin) {
            ($0.confirmAbove, $0.approveAbove) = (5, 9)
        }
        let home = Level.organization(organization)
        strong = try await roles.createRole(
            name: "strong", permissions: [.webhooksRead, .webhooksWrite], home: home, by: admin)
        weak = try await roles.createRole(name: "weak", permissions: [.auditRead], home: home, by: admin)
        ann = try await Self.person("ann", home, signIn, clock, admin)
        bob = try await Self.person("bob", home, signIn, clock, admin)
        for user in [ann.user, bob.user] {
            _ = try await roles.bind(user, to: .builtin("viewer"), on: home, by: nil)
        }
        _ = try await roles.bind(ann.user, to: .made(strong.id), on: home, by: nil)
        key = try await authenticator.createKey(
            name: "k", level: home, permissions: [.jobsRead], expiresIn: .seconds(86_400), by: nil)
    }

    private static func person(
        _ name: String, _ home: Level, _ signIn: SignIn, _ clock: ManualClock, _ admin: Principal
    ) async throws -> Person {
        let (email, password) = ("\(name)@example.com", "correct horse battery \(name)")
        let user = try await RoleMaker(signIn.authenticator).createUser(
            email: email, name: name, home: home, by: admin
        ).id
        _ = try await signIn.acceptLink(signIn.invite(user, by: admin).secret, password: password)
        let session = try await signIn.begin(email: email, password: password, code: nil, origin)
        let secret = try #require(Base32.decode(await signIn.beginTOTP(of: user).secret))
        let totp = try TOTP(secret: SecretBytes(secret))
        _ = try await signIn.confirmTOTP(of: user, code: totp.code(at: clock.now))
        return Person(
            user: user, session: session.row.id, secret: session.secret, password: password, totp: totp)
    }

    // MARK: What rows come to

    /// What a session's or a key's text opens.
    func rights(_ text: String) async throws -> String {
        // What was judged before is not remembered so long.
        clock.advance(.seconds(30))
        do {
            let principal = try await authenticator.principal(of: text)
            let reach = principal.reach.map { "\($0.key.rawValue) \($0.value)" }.sorted()
            return "\(principal.id) \(principal.steppedUpAt as Any) \(principal.maker): \(reach)"
        } catch let error as AccessError {
            return error.code.rawValue
        }
    }

    /// How far one act of the partner may reach.
    func reachOfActs() async throws -> String {
        authenticator.guards.forget()
        clock.advance(.seconds(30))
        let judged = try await authenticator.guards.rules(on: .partner(partner))
        return "\(judged.isAltered) \(judged.rules.confirmAbove) \(judged.rules.approveAbove as Any)"
    }

    /// Whom an address and a password let in, with a code of now; the address is what the row says by now.
    func signsIn(_ user: UserID, _ password: String, _ code: String? = nil) async throws -> String {
        clock.advance(.seconds(30))
        let emails = try await database.owner.query(
            "SELECT email FROM users WHERE id = \(user)", scope: .platform
        ) { try $0.decode(String.self) }
        return try await attempt {
            try await signIn.begin(
                email: emails.first ?? "ann@example.com", password: password,
                code: code ?? (user == ann.user ? ann : bob).totp.code(at: clock.now), Self.origin
            ).row.user
        }
    }

    /// Whose password a link sets.
    func accepts(_ text: String) async throws -> String {
        try await attempt {
            try await signIn.acceptLink(text, password: "another horse \(UniqueID.v7(at: clock.now))").id
        }
    }

    /// As whom a device's code signs in.
    func finishes(_ text: String) async throws -> String {
        try await attempt { try await signIn.finishDevice(text, Self.origin).row.user }
    }

    private func attempt(_ body: () async throws -> UserID) async throws -> String {
        // No attempt waits for those before.
        try await database.owner.execute("DELETE FROM sign_in_failures", scope: .platform)
        do {
            let user = try await body()
            return user == ann.user ? "ann" : user == bob.user ? "bob" : "\(user)"
        } catch let error as AccessError {
            return error.code.rawValue
        }
    }

    // MARK: The database's owner

    /// Does as the database's owner what no trigger and no foreign key hinders.
    func asOwner(_ statements: SQL...) async throws {
        try await database.owner.pipeline(
            scope: .platform,
            ["SELECT set_config('session_replication_role', 'replica', true)"] + statements)
    }

    /// Keeps a table as it is.
    func keep(_ table: SQL) async throws {
        try await asOwner(
            "DROP TABLE IF EXISTS kept", "CREATE TABLE kept AS SELECT * FROM \(fragment: table)")
    }

    /// Puts a table back as it was kept.
    func putBack(_ table: SQL) async throws {
        try await asOwner(
            "DELETE FROM \(fragment: table)", "INSERT INTO \(fragment: table) SELECT * FROM kept")
    }

    /// How many rows of a table are not as they were kept.
    func differs(_ table: SQL) async throws -> Int {
        try await database.owner.query(
            "SELECT count(*) FROM (SELECT * FROM \(fragment: table) EXCEPT SELECT * FROM kept) t",
            scope: .platform
        ) { try $0.decode(Int.self) }[0]
    }

    /// The last step whose code was taken.
    func lastStep(of user: UserID) async throws -> Int {
        try #require(await database.ledger.credentials(of: user)).lastStep
    }
}

/// A text that changes.
final class OneText: Sendable {
    private let text = Mutex("")

    var value: String { text.withLock { $0 } }
    func set(_ new: String) { text.withLock { $0 = new } }
}
