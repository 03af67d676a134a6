package import Domain
import Ledger
package import Postgres

/// Who is calling, judged: nothing in it comes from a row whose MAC did not hold.
package struct Principal: Sendable, Hashable {
    /// What is calling.
    package enum Kind: String, Sendable {
        /// An API key.
        case key
        /// A person.
        case user
    }

    /// What is calling, and under which id what it does is noted.
    package let kind: Kind
    package let id: PrincipalID
    /// In whose name it makes things that grant power: they never have more than this principal.
    package let maker: PrincipalID
    /// What it may do, and where.
    package let reach: [Permission: Level]
    /// Until when.
    package let expiresAt: Instant
    /// Whether it may let people in, who stay when it is gone: a person, whoever acts for one, and the
    /// installation's own keys may; a key that somebody made may not, nor whoever has no account here.
    package let mayMakeLasting: Bool
    /// The session of a person, and whether a second factor was shown lately.
    package let session: SessionID?
    package let steppedUpAt: Instant?
    /// Until when what it makes may last at the most; `nil` where rights are judged anew at each use.
    package let lifetimeOfMade: Instant?

    /// A principal.
    package init(
        kind: Kind, id: PrincipalID, maker: PrincipalID, reach: [Permission: Level], expiresAt: Instant,
        lifetimeOfMade: Instant?, mayMakeLasting: Bool = true, session: SessionID? = nil,
        steppedUpAt: Instant? = nil
    ) {
        self.kind = kind
        self.id = id
        self.maker = maker
        self.reach = reach
        self.expiresAt = expiresAt
        self.lifetimeOfMade = lifetimeOfMade
        self.mayMakeLasting = mayMakeLasting
        self.session = session
        self.steppedUpAt = steppedUpAt
        widest = Rights.widest(Array(Set(reach.values)))
    }

    /// What it may do anywhere.
    package var permissions: Set<Permission> { Set(reach.keys) }

    /// Refuses keys that somebody made and who has no account here, with `forbidden`: what they would make
    /// would outlive them.
    package func requireLasting() throws(AccessError) {
        guard mayMakeLasting else {
            throw AccessError(
                .forbidden,
                "a key that ends with its maker, or a token of nobody's account, cannot let people in: sign "
                    + "in, or act as a person")
        }
    }

    /// Refuses a person whose second factor was not shown within so many seconds, with `stepUpRequired`. Keys
    /// cannot show one: they are scoped, expire, and hold nothing that their maker could not give them.
    package func requireFresh(within seconds: Int, at time: Instant, for what: String) throws(AccessError) {
        guard kind == .user else { return }
        guard let steppedUpAt, steppedUpAt + .seconds(seconds) > time else {
            throw .stepUpRequired(for: what, seconds: seconds)
        }
    }

    /// The person who has signed in; refuses keys with `forbidden`.
    package var user: (id: UserID, session: SessionID) {
        get throws(AccessError) {
            guard kind == .user, let session else {
                throw AccessError(.forbidden, "this is for people who have signed in, not for API keys")
            }
            return (UserID(id.value), session)
        }
    }

    /// On which part of the tenancy it may use a permission; refuses with `forbidden`, naming the permission,
    /// unless there is one.
    package func require(_ permission: Permission) throws(AccessError) -> Level {
        guard let level = reach[permission] else {
            throw AccessError(
                .forbidden, "this needs the permission \(permission.rawValue), which you do not have")
        }
        return level
    }

    /// The widest part of the tenancy that it reaches by any permission: whose log it stands in.
    package let widest: Level?

    /// As the audit log and the database's triggers know it.
    package func actor(requestID: String, address: String?) -> Actor? {
        Actor(setting: "\(kind.rawValue) \(id) \(requestID) \(address ?? "-")")
    }

    /// Nobody who is known.
    package static func unknownActor(requestID: String, address: String?) -> Actor? {
        Actor(setting: "nobody - \(requestID) \(address ?? "-")")
    }
}
