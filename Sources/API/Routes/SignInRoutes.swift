import Access
import Domain
import HTTPTypes
import Ledger
import Trust
import Wire

/// How people sign in, and what they may do to themselves.
extension Handlers {
    var signInRoutes: [Route] { sessionRoutes + linkRoutes + deviceCodeRoutes + selfRoutes }

    private var sessionRoutes: [Route] {
        [
            Route(
                method: .post, path: "/v1/sessions",
                summary: "Signs somebody in; the session's text is shown only here", caller: .anyone,
                body: Route.Body(
                    shape: NewSession.shape(.none), bytesMax: Limits.enrollmentBodyBytesMax),
                status: .created, answer: .json(CreatedSession.shape(.none)), respond: beginSession
            ).refusing(.unauthorized, .secondFactorRequired, .throttled, .overloaded),
            .get("/v1/sessions", "Lists one's own sessions", .known) { (call: Call, query: PageQuery) in
                let own = try call.principal.user
                return query.page(
                    try await signIn.sessions(of: own.id, query.request), id: \.id.value
                ) { UserSession($0, current: own.session) }
            },
            .delete("/v1/sessions/{id}", "Ends one of one's own sessions", .known) { call in
                try await signIn.end(call.id(), of: call.principal.user.id)
            },
            Route(
                method: .post, path: "/v1/sessions/step-up",
                summary: "Shows the second factor again; the session gets another text", caller: .known,
                body: Route.Body(shape: NewCode.shape(.none), bytesMax: Limits.enrollmentBodyBytesMax),
                status: .ok, answer: .json(CreatedSession.shape(.none))
            ) { call in
                let own = try call.principal.user
                let (row, secret) = try await signIn.stepUp(
                    own.session, of: own.id, code: NewCode.decode(call.body).code)
                return session(row, secret, inCookie: call.isFromCookie, status: .ok)
            }.refusing(.secondFactorRequired, .throttled, .conflict),
        ]
    }

    @Sendable private func beginSession(_ call: Call) async throws -> Reply {
        let new = try NewSession.decode(call.body)
        let origin = SignIn.Origin(
            agent: new.agent ?? call.agent, address: call.address, isCommandLine: !new.cookie)
        let (row, secret) = try await signIn.begin(
            email: new.email, password: new.password, code: new.code, origin)
        return session(row, secret, inCookie: new.cookie, status: .created)
    }

    func session(
        _ row: SessionRow, _ secret: String, inCookie: Bool, status: HTTPResponse.Status
    ) -> Reply {
        var reply = Reply.json(
            CreatedSession(
                id: row.id, userId: row.user, token: inCookie ? nil : secret,
                csrfToken: inCookie ? SessionCookie.csrfToken(of: secret) : nil, expiresAt: row.expiresAt),
            status: status)
        if inCookie { reply.headers[.setCookie] = SessionCookie.header(secret, until: row.expiresAt) }
        return reply
    }

    private var linkRoutes: [Route] {
        [
            .post(
                "/v1/users/{id}/invitation",
                "Makes the link by which a person who was made sets a password; shown only here",
                .permitted(.usersWrite), status: .created
            ) { call in
                let (secret, until) = try await signIn.invite(call.id(), by: call.principal)
                return SignInLink(token: secret, expiresAt: until)
            }.refusing(.conflict),
            .post(
                "/v1/users/{id}/password-reset",
                "Makes the link by which a person sets a new password; shown only here",
                .permitted(.usersWrite),
                status: .created
            ) { call in
                let (secret, until) = try await signIn.resetPassword(of: call.id(), by: call.principal)
                return SignInLink(token: secret, expiresAt: until)
            }.refusing(.conflict),
            .post(
                "/v1/sign-in-links/accept", "Takes an invitation, or a link for a new password; once",
                .anyone, status: .ok, bytesMax: Limits.enrollmentBodyBytesMax
            ) { (_: Call, new: NewAcceptance) in
                User(try await signIn.acceptLink(new.token, password: new.password))
            }.refusing(.conflict, .overloaded),
        ]
    }

    /// How often a command line asks whether its code was approved.
    private static var intervalSeconds: Int { 2 }

    private var deviceCodeRoutes: [Route] {
        [
            .post(
                "/v1/device-codes", "Begins the sign-in of a command line, which somebody approves",
                .anyone, bytesMax: Limits.enrollmentBodyBytesMax
            ) { (call: Call, new: NewDeviceCode) in
                let (secret, userCode, until) = try await signIn.beginDevice(
                    agent: new.agent ?? call.agent, address: call.address)
                return DeviceCode(
                    deviceCode: secret, userCode: userCode, intervalSeconds: Self.intervalSeconds,
                    expiresAt: until)
            }.refusing(.throttled, .overloaded),
            .post(
                "/v1/device-codes/approve", "Approves the sign-in of a command line as oneself", .known,
                status: .ok, bytesMax: Limits.enrollmentBodyBytesMax
            ) { (call: Call, new: NewApproval) in
                try await signIn.approveDevice(new.userCode, by: call.principal.user.id)
                return Done()
            }.refusing(.throttled, .conflict),
            .post(
                "/v1/device-codes/session",
                "Ends the sign-in of a command line; 409 approvalPending until it is approved", .anyone,
                bytesMax: Limits.enrollmentBodyBytesMax
            ) { (call: Call, new: NewDeviceSession) in
                let (row, secret) = try await signIn.finishDevice(
                    new.deviceCode,
                    SignIn.Origin(agent: call.agent, address: call.address, isCommandLine: true))
                return CreatedSession(
                    id: row.id, userId: row.user, token: secret, csrfToken: nil, expiresAt: row.expiresAt)
            }.refusing(.approvalPending, .unauthorized),
        ]
    }

    private var selfRoutes: [Route] {
        [
            .post(
                "/v1/me/second-factor",
                "Makes a secret for an authenticator; it counts once a code of it was shown", .known,
                status: .created
            ) { call in
                let (secret, uri) = try await signIn.beginTOTP(of: call.principal.user.id)
                return SecondFactor(secret: secret, uri: uri)
            }.refusing(.conflict),
            .post(
                "/v1/me/second-factor/confirm",
                "Shows a first code: the second factor is asked for from then on", .known, status: .ok,
                bytesMax: Limits.enrollmentBodyBytesMax
            ) { (call: Call, new: NewCode) in
                RecoveryCodes(
                    codes: try await signIn.confirmTOTP(of: call.principal.user.id, code: new.code))
            }.refusing(.throttled, .conflict, .secondFactorRequired),
            .post(
                "/v1/me/second-factor/remove", "Takes the second factor away; a code has to be shown",
                .known, status: .ok, bytesMax: Limits.enrollmentBodyBytesMax
            ) { (call: Call, new: NewCode) in
                try await signIn.endTOTP(of: call.principal.user.id, code: new.code)
                return Done()
            }.refusing(.throttled, .conflict, .secondFactorRequired),
            .post(
                "/v1/me/password", "Gives oneself another password; the other sessions end", .known,
                status: .ok, bytesMax: Limits.enrollmentBodyBytesMax
            ) { (call: Call, new: NewPassword) in
                let own = try call.principal.user
                try await signIn.changePassword(
                    of: own.id, from: new.current, to: new.password, keeping: own.session)
                return Done()
            }.refusing(.throttled, .overloaded),
        ]
    }
}

/// The cookie that a browser keeps a session in, and the word that shows that a change comes from our page.
enum SessionCookie {
    /// `__Host-`: only over HTTPS, only of this host, for all paths.
    static let name = "__Host-crmm_session"

    /// The header that sets it: no script reads it, and no other site sends it along.
    static func header(_ secret: String, until: Instant) -> String {
        let seconds = max(0, (until.microseconds - Instant.now().microseconds) / 1_000_000)
        return "\(name)=\(secret); Path=/; Max-Age=\(seconds); Secure; HttpOnly; SameSite=Strict"
    }

    /// A page that has the cookie cannot read it, so this is told to it once: whoever only makes a browser
    /// send the cookie does not know it.
    static func csrfToken(of secret: String) -> String {
        Base64URL.encode(SHA256.hash(Array("cloudrmm.csrf.v1 \(secret)".utf8)))
    }

    /// The session of the Cookie headers; `nil` if there is none, or more than one.
    static func secret(in headers: HTTPFields) -> String? {
        let pairs = headers[values: .cookie].flatMap { $0.split(separator: ";") }
        let values = pairs.compactMap { pair -> Substring? in
            let trimmed = pair.drop { $0 == " " }
            return trimmed.hasPrefix("\(name)=") ? trimmed.dropFirst(name.count + 1) : nil
        }
        return values.count == 1 ? String(values[0]) : nil
    }
}

extension UserSession {
    /// A row of sessions.
    init(_ row: SessionRow, current: SessionID) {
        self.init(
            id: row.id, agent: row.agent, address: row.address, current: row.id == current,
            createdAt: row.createdAt, lastSeenAt: row.lastSeenAt, expiresAt: row.expiresAt)
    }
}
