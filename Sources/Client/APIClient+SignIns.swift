package import Domain
package import Wire

extension APIClient {
    // MARK: Sessions

    /// Signs somebody in.
    package func signIn(_ new: NewSession) async throws -> CreatedSession {
        try await post("/v1/sessions", new)
    }

    /// One page of one's own sessions.
    package func sessions(_ page: PageOptions = PageOptions()) async throws -> Page<UserSession> {
        try await get("/v1/sessions", page.parameters)
    }

    /// Ends one of one's own sessions.
    package func end(_ session: SessionID) async throws { try await delete("/v1/sessions/\(session)") }

    /// Shows the second factor again: the session has another text from then on.
    package func stepUp(code: String) async throws -> CreatedSession {
        try await post("/v1/sessions/step-up", NewCode(code: code))
    }

    // MARK: Devices' codes

    /// Begins a sign-in that somebody approves.
    package func beginDeviceCode(agent: String) async throws -> DeviceCode {
        try await post("/v1/device-codes", NewDeviceCode(agent: agent))
    }

    /// Approves a sign-in as oneself.
    package func approve(userCode: String) async throws {
        let _: Done = try await post("/v1/device-codes/approve", NewApproval(userCode: userCode))
    }

    /// Ends a sign-in that somebody has approved; a `Problem` of code `approvalPending` until then.
    package func endDeviceCode(_ code: String) async throws -> CreatedSession {
        try await post("/v1/device-codes/session", NewDeviceSession(deviceCode: code))
    }

    // MARK: Links

    /// Makes the link by which a person sets a first password.
    package func invite(_ user: UserID) async throws -> SignInLink {
        try await post("/v1/users/\(user)/invitation")
    }

    /// Makes the link by which a person sets a new password.
    package func resetPassword(of user: UserID) async throws -> SignInLink {
        try await post("/v1/users/\(user)/password-reset")
    }

    /// Takes a link: sets the password.
    package func accept(_ new: NewAcceptance) async throws -> User {
        try await post("/v1/sign-in-links/accept", new)
    }

    // MARK: Oneself

    /// Makes a second factor, to be confirmed.
    package func beginSecondFactor() async throws -> SecondFactor { try await post("/v1/me/second-factor") }

    /// Confirms a second factor by a first code.
    package func confirmSecondFactor(code: String) async throws -> RecoveryCodes {
        try await post("/v1/me/second-factor/confirm", NewCode(code: code))
    }

    /// Takes the second factor away.
    package func removeSecondFactor(code: String) async throws {
        let _: Done = try await post("/v1/me/second-factor/remove", NewCode(code: code))
    }

    /// Gives oneself another password.
    package func changePassword(_ new: NewPassword) async throws {
        let _: Done = try await post("/v1/me/password", new)
    }
}
