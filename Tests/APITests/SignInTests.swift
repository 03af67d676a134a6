import Client
import Domain
import Ledger
import Outbound
import Postgres
import TestSupport
import Testing
import Trust
import Wire

@testable import API
@testable import Access

extension TestAPI {
    /// A person with a role on a level who has signed in, and who has shown a second factor just now unless
    /// said otherwise; the client has the session.
    func person(
        _ email: String, _ role: BuiltinRole, on level: Level, password: String = "correct horse battery",
        steppedUpAt: Instant? = .now()
    ) async throws -> (user: User, client: APIClient, session: CreatedSession) {
        let admin = APIClient(url: url, key: admin)
        defer { admin.close() }
        let user = try await admin.createUser(NewUser(email: email, name: email))
        _ = try await admin.bind(
            NewBinding(userId: user.id, role: role.rawValue, place: Place(LevelColumns(level))))
        let link = try await admin.invite(user.id)
        let stranger = APIClient(url: url, key: nil)
        defer { stranger.close() }
        let accepted = try await stranger.accept(NewAcceptance(token: link.token, password: password))
        let session = try await stranger.signIn(NewSession(email: email, password: password))
        try await stepUp(session, at: steppedUpAt)
        return (accepted, APIClient(url: url, key: session.token), session)
    }

    /// Says in the session's row when a second factor was shown last, as only the API can under its MAC.
    func stepUp(_ session: CreatedSession, at time: Instant?) async throws {
        var row = try #require(await ledger.session(session.id, of: session.userId))
        row.steppedUpAt = time
        let seals = RowSeals(key: try MACKey(bytes: Array(repeating: 7, count: 32)), keyID: "k1")
        let mac = seals.seal(row.sealedParts)
        try await owner.execute(
            """
            UPDATE sessions SET stepped_up_at = \(time), mac = \(PostgresData(mac.code))
            WHERE id = \(row.id)
            """, scope: .platform)
        authenticator.forget()
    }
}

@Suite("People sign in")
struct SignInTests {
    private static let password = "correct horse battery"

    @Test("an invited technician of one organization signs in and sees only it; so does one of two")
    func technician() async throws {
        try await TestAPI.with { api in
            let (user, client, _) = try await api.person(
                "tess@example.com", .technician, on: .organization(api.one.organization))
            defer { client.close() }
            #expect(user.state == .active)
            #expect(try await client.organizations().items.map(\.id) == [api.one.organization])
            #expect(try await client.devices().items.map(\.id) == [api.one.device])
            let refused = try await refusal { _ = try await client.organization(api.other.organization) }
            #expect(refused.status == 404)
            let job = try await client.submit(NewJob(kind: .ping, target: .devices([api.one.device])))
            #expect(try await client.job(job.id).id == job.id)
            let elsewhere = try await refusal {
                _ = try await client.submit(NewJob(kind: .ping, target: .devices([api.other.device])))
            }
            #expect(elsewhere.status == 422 || elsewhere.status == 404)
            // A second organization: both are one scope.
            let admin = APIClient(url: api.url, key: api.admin)
            defer { admin.close() }
            let binding = try await admin.bind(
                NewBinding(
                    userId: user.id, role: "technician",
                    place: Place(organizationId: api.other.organization)))
            #expect(
                Set(try await client.organizations().items.map(\.id))
                    == [api.one.organization, api.other.organization])
            _ = try await client.submit(NewJob(kind: .ping, target: .devices([api.other.device])))
            // And back.
            try await admin.unbind(binding.id)
            #expect(try await client.organizations().items.map(\.id) == [api.one.organization])
            // A role of another kind of level does not go together with these.
            let mixed = try await refusal {
                _ = try await admin.bind(
                    NewBinding(
                        userId: user.id, role: "viewer", place: Place(partnerId: api.one.partner)))
            }
            #expect(mixed.code == "conflict" && mixed.field == "userId")
        }
    }

    @Test("a wrong password, an unknown address and a disabled account get the same answer")
    func refusals() async throws {
        try await TestAPI.with { api in
            let (user, client, _) = try await api.person("a@example.com", .viewer, on: .platform)
            defer { client.close() }
            let stranger = APIClient(url: api.url, key: nil)
            defer { stranger.close() }
            func attempt(_ email: String, _ password: String) async throws -> Problem {
                try await refusal {
                    _ = try await stranger.signIn(NewSession(email: email, password: password))
                }
            }
            let wrong = try await attempt("a@example.com", "wrong horse battery")
            let unknown = try await attempt("b@example.com", Self.password)
            let admin = APIClient(url: api.url, key: api.admin)
            defer { admin.close() }
            _ = try await admin.edit(user.id, NewUserChanges(disabled: true))
            let disabled = try await attempt("a@example.com", Self.password)
            for problem in [wrong, unknown, disabled] {
                #expect(problem.status == 401 && problem.detail == wrong.detail)
            }
            // The session that there was ends with the account.
            #expect(try await refusal { _ = try await client.whoami() }.status == 401)
            _ = try await admin.edit(user.id, NewUserChanges(disabled: false))
            // What ended stays ended; signing in begins anew.
            #expect(try await refusal { _ = try await client.whoami() }.status == 401)
            let again = try await stranger.signIn(
                NewSession(email: "a@example.com", password: Self.password))
            #expect(again.userId == user.id)
        }
    }

    @Test("after five failures an account has to wait, with 429 and Retry-After")
    func throttled() async throws {
        try await TestAPI.with { api in
            let (_, client, _) = try await api.person("a@example.com", .viewer, on: .platform)
            defer { client.close() }
            let body = #"{"email":"a@example.com","password":"not the password"}"#
            for _ in 0..<5 {
                #expect(
                    try await api.call("POST", "/v1/sessions", key: .some(nil), body: body).status == 401)
            }
            // The sixth may come at once. From then on each waits twice as long as the one before, and soon
            // longer than an attempt takes on any machine.
            var last = try await api.call("POST", "/v1/sessions", key: .some(nil), body: body)
            for _ in 0..<10 where last.status == 401 {
                last = try await api.call("POST", "/v1/sessions", key: .some(nil), body: body)
            }
            #expect(last.status == 429 && last.header("retry-after") != nil)
            #expect(try api.problem(last).code == "throttled")
        }
    }

    @Test("a second factor is asked for once it was confirmed; its codes and those for recovery work once")
    func secondFactor() async throws {
        try await TestAPI.with { api in
            let (user, client, _) = try await api.person("a@example.com", .technician, on: .platform)
            defer { client.close() }
            let stranger = APIClient(url: api.url, key: nil)
            defer { stranger.close() }
            let factor = try await client.beginSecondFactor()
            let totp = try TOTP(secret: SecretBytes(#require(Base32.decode(factor.secret))))
            #expect(factor.uri.hasPrefix("otpauth://totp/CloudRMM:a%40example.com?secret=\(factor.secret)"))
            // Until it is confirmed, nobody is asked for it.
            _ = try await stranger.signIn(NewSession(email: "a@example.com", password: Self.password))
            let code = totp.code(at: .now())
            let recovery = try await client.confirmSecondFactor(code: code).codes
            #expect(recovery.count == 10 && Set(recovery).count == 10)
            var new = NewSession(email: "a@example.com", password: Self.password)
            #expect(try await refusal { _ = try await stranger.signIn(new) }.code == "secondFactorRequired")
            new.code = code
            #expect(try await refusal { _ = try await stranger.signIn(new) }.code == "unauthorized")
            new.code = totp.code(at: .now() + .seconds(30))
            let session = try await stranger.signIn(new)
            new.code = recovery[3]
            _ = try await stranger.signIn(new)
            #expect(try await refusal { _ = try await stranger.signIn(new) }.code == "unauthorized")
            // A step-up gives the session another text, and the one before opens nothing.
            let signedIn = APIClient(url: api.url, key: session.token)
            defer { signedIn.close() }
            let fresh = try await signedIn.stepUp(code: recovery[4])
            #expect(fresh.id == session.id && fresh.token != session.token)
            #expect(try await refusal { _ = try await signedIn.whoami() }.status == 401)
            let principal = try await api.authenticator.principal(of: fresh.token ?? "")
            #expect(principal.steppedUpAt != nil && principal.id.value == user.id.value)
            // No secret of it stands in the database as it is.
            let copies = try await api.owner.query(
                """
                SELECT count(*) FROM user_credentials c
                WHERE c::text LIKE '%' || \(factor.secret) || '%'
                   OR position(\(PostgresData(totp.secret.copy())) IN c.sealed) > 0
                """, scope: .platform
            ) { try $0.decode(Int.self) }
            #expect(copies == [0])
        }
    }

    @Test("an invitation works once, and a password that is guessed first is refused without using it up")
    func invitation() async throws {
        try await TestAPI.with { api in
            let admin = APIClient(url: api.url, key: api.admin)
            let stranger = APIClient(url: api.url, key: nil)
            defer { admin.close(); stranger.close() }
            let user = try await admin.createUser(NewUser(email: "Ann@Example.com", name: "Ann"))
            #expect(user.email == "ann@example.com" && user.state == .invited)
            let first = try await admin.invite(user.id)
            let second = try await admin.invite(user.id)
            for password in ["short", "aaaaaaaaaaaaaaa", "password1234"] {
                let refused = try await refusal {
                    _ = try await stranger.accept(NewAcceptance(token: second.token, password: password))
                }
                #expect(refused.status == 422 && refused.field == "password", "\(password)")
            }
            // A newer link takes the place of an older one.
            let old = NewAcceptance(token: first.token, password: Self.password)
            #expect(try await refusal { _ = try await stranger.accept(old) }.field == "token")
            let new = NewAcceptance(token: second.token, password: Self.password)
            #expect(try await stranger.accept(new).state == .active)
            #expect(try await refusal { _ = try await stranger.accept(new) }.field == "token")
            // The used mark is not what it hangs on.
            try await api.owner.execute("UPDATE sign_in_links SET used_at = NULL", scope: .platform)
            #expect(try await refusal { _ = try await stranger.accept(new) }.field == "token")
            // A new password ends the sessions.
            let session = try await stranger.signIn(
                NewSession(email: "ann@example.com", password: Self.password))
            let reset = try await admin.resetPassword(of: user.id)
            _ = try await stranger.accept(
                NewAcceptance(token: reset.token, password: "another horse battery"))
            let client = APIClient(url: api.url, key: session.token)
            defer { client.close() }
            #expect(try await refusal { _ = try await client.whoami() }.status == 401)
        }
    }

    @Test("a command line signs in by a code that somebody approves, once")
    func deviceCode() async throws {
        try await TestAPI.with { api in
            let (user, client, _) = try await api.person("a@example.com", .viewer, on: .platform)
            let stranger = APIClient(url: api.url, key: nil)
            defer { client.close(); stranger.close() }
            let code = try await stranger.beginDeviceCode(agent: "test")
            #expect(
                try await refusal { _ = try await stranger.endDeviceCode(code.deviceCode) }.code
                    == "approvalPending")
            try await client.approve(userCode: code.userCode.lowercased())
            #expect(try await refusal { try await client.approve(userCode: code.userCode) }.status == 422)
            let session = try await stranger.endDeviceCode(code.deviceCode)
            #expect(session.userId == user.id)
            #expect(try await refusal { _ = try await stranger.endDeviceCode(code.deviceCode) }.status == 422)
            // A key cannot approve: nobody would know as whom.
            let admin = APIClient(url: api.url, key: api.admin)
            defer { admin.close() }
            let other = try await stranger.beginDeviceCode(agent: "test")
            #expect(try await refusal { try await admin.approve(userCode: other.userCode) }.status == 403)
        }
    }

    @Test("a cookie lets read; a change needs the Origin of this host and the session's word")
    func cookie() async throws {
        try await TestAPI.with { api in
            let (_, client, _) = try await api.person(
                "a@example.com", .partnerAdmin, on: .partner(api.one.partner))
            defer { client.close() }
            let answer = try await api.call(
                "POST", "/v1/sessions", key: .some(nil),
                body: #"{"email":"a@example.com","password":"\#(Self.password)","cookie":true}"#)
            let session = try CreatedSession.decode(answer.body)
            let header = try #require(answer.header("set-cookie"))
            #expect(session.token == nil && header.hasPrefix("__Host-crmm_session=crmm_session_"))
            for word in ["Secure", "HttpOnly", "SameSite=Strict", "Path=/"] {
                #expect(header.contains(word), "\(word)")
            }
            let cookie = ("Cookie", String(header.prefix { $0 != ";" }))
            let word = ("X-CSRF-Token", try #require(session.csrfToken))
            let origin = ("Origin", "https://rmm.example")
            func rename(_ headers: [(String, String)]) async throws -> Int {
                try await api.call(
                    "PATCH", "/v1/partners/\(api.one.partner)", key: .some(nil), body: #"{"name":"x"}"#,
                    headers: headers
                ).status
            }
            let read = try await api.call("GET", "/v1/partners", key: .some(nil), headers: [cookie])
            #expect(read.status == 200)
            #expect(try await rename([cookie]) == 403)
            #expect(try await rename([cookie, word]) == 403)
            #expect(try await rename([cookie, origin]) == 403)
            #expect(try await rename([cookie, word, ("Origin", "https://evil.example")]) == 403)
            #expect(try await rename([cookie, word, ("Origin", "null")]) == 403)
            #expect(try await rename([cookie, origin, ("X-CSRF-Token", "x")]) == 403)
            #expect(try await rename([cookie, word, origin]) == 200)
            // Two cookies of the name are none.
            let both = ("Cookie", "\(cookie.1); \(cookie.1)")
            #expect(
                try await api.call("GET", "/v1/partners", key: .some(nil), headers: [both]).status == 401)
        }
    }
}
