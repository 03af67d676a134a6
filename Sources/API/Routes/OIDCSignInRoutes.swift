import Access
import HTTPTypes
import Wire

/// How people sign in at an issuer's own pages.
extension Handlers {
    var oidcSignInRoutes: [Route] {
        [
            .post(
                "/v1/oidc-sign-ins", "Begins a sign-in at an issuer's own pages, and says where to go",
                .anyone,
                bytesMax: Limits.enrollmentBodyBytesMax
            ) { (_: Call, new: NewOIDCSignIn) in
                let begun = try await OIDCSignIn(signIn).begin(new.providerId, redirectURL: new.redirectUrl)
                return OIDCSignInBegun(
                    authorizationUrl: begun.authorizationURL, flow: begun.flow, expiresAt: begun.expiresAt)
            }.refusing(.conflict, .throttled, .overloaded),
            Route(
                method: .post, path: "/v1/oidc-sign-ins/session",
                summary:
                    "Ends a sign-in with what the issuer sent back; the session's text is shown only here",
                caller: .anyone,
                body: Route.Body(
                    shape: NewOIDCSession.shape(.none), bytesMax: Limits.enrollmentBodyBytesMax),
                status: .created, answer: .json(CreatedSession.shape(.none)), respond: endOIDCSignIn
            ).refusing(.unauthorized, .secondFactorRequired, .throttled, .conflict, .overloaded),
        ]
    }

    @Sendable private func endOIDCSignIn(_ call: Call) async throws -> Reply {
        let new = try NewOIDCSession.decode(call.body)
        let origin = SignIn.Origin(
            agent: new.agent ?? call.agent, address: call.address, isCommandLine: !new.cookie)
        let (row, secret) = try await OIDCSignIn(signIn).finish(
            new.flow, code: new.code, state: new.state, issuer: new.issuer, secondFactor: new.secondFactor,
            origin)
        return session(row, secret, inCookie: new.cookie, status: .created)
    }
}
