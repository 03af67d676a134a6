package import Domain

/// Body that signs somebody in.
package struct NewSession: WireObject, Equatable {
    /// Whose account.
    package var email: String
    /// The password.
    package var password: String
    /// The code of the authenticator, or one for recovery, where there is a second factor.
    package var code: String?
    /// Whether a browser keeps the session in a cookie that no script reads.
    package var cookie: Bool
    /// What signs in, for the list of sessions; else the User-Agent.
    package var agent: String?

    /// Body that signs somebody in.
    package init(
        email: String, password: String, code: String? = nil, cookie: Bool = false, agent: String? = nil
    ) {
        self.email = email
        self.password = password
        self.code = code
        self.cookie = cookie
        self.agent = agent
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        email = try reader.field("email", String.self, .in(3...254))
        password = try reader.field("password", String.self, .in(1...1_024))
        code = try reader.optional("code", String.self, .in(1...64))
        cookie = try reader.optional("cookie") ?? false
        agent = try reader.optional("agent", String.self, .in(1...200))
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("email", email)
        writer.field("password", password)
        writer.field("code", code)
        writer.field("cookie", cookie)
        writer.field("agent", agent)
    }
}

/// A new session: the only time that its text is shown.
package struct CreatedSession: WireObject, Equatable {
    /// Its id, and whose it is.
    package var id: SessionID
    /// Who has signed in.
    package var userId: UserID
    /// What to send as `Authorization: Bearer …`; absent where a cookie has it.
    package var token: String?
    /// What a page sends as `X-CSRF-Token` with each change; only with a cookie.
    package var csrfToken: String?
    /// When it ends at the latest.
    package var expiresAt: Instant

    /// A new session: the only time that its text is shown.
    package init(id: SessionID, userId: UserID, token: String?, csrfToken: String?, expiresAt: Instant) {
        self.id = id
        self.userId = userId
        self.token = token
        self.csrfToken = csrfToken
        self.expiresAt = expiresAt
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        id = try reader.field("id")
        userId = try reader.field("userId")
        token = try reader.optional("token")
        csrfToken = try reader.optional("csrfToken")
        expiresAt = try reader.field("expiresAt")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("id", id)
        writer.field("userId", userId)
        writer.field("token", token)
        writer.field("csrfToken", csrfToken)
        writer.field("expiresAt", expiresAt)
    }
}

/// Somebody who has signed in, as lists show it.
package struct UserSession: WireObject, Equatable {
    /// Its id.
    package var id: SessionID
    /// What it was begun with.
    package var agent: String
    /// From where.
    package var address: String?
    /// Whether it is the one that asks.
    package var current: Bool
    /// When it began.
    package var createdAt: Instant
    /// When it was used last, to about a minute.
    package var lastSeenAt: Instant
    /// When it ends at the latest.
    package var expiresAt: Instant

    /// Somebody who has signed in, as lists show it.
    package init(
        id: SessionID, agent: String, address: String?, current: Bool, createdAt: Instant,
        lastSeenAt: Instant, expiresAt: Instant
    ) {
        self.id = id
        self.agent = agent
        self.address = address
        self.current = current
        self.createdAt = createdAt
        self.lastSeenAt = lastSeenAt
        self.expiresAt = expiresAt
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        id = try reader.field("id")
        agent = try reader.field("agent")
        address = try reader.optional("address")
        current = try reader.field("current")
        createdAt = try reader.field("createdAt")
        lastSeenAt = try reader.field("lastSeenAt")
        expiresAt = try reader.field("expiresAt")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("id", id)
        writer.field("agent", agent)
        writer.field("address", address)
        writer.field("current", current)
        writer.field("createdAt", createdAt)
        writer.field("lastSeenAt", lastSeenAt)
        writer.field("expiresAt", expiresAt)
    }
}

/// Body that shows a second factor.
package struct NewCode: WireObject, Equatable {
    /// The code of the authenticator, or one for recovery.
    package var code: String

    /// Body that shows a second factor.
    package init(code: String) {
        self.code = code
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        code = try reader.field("code", String.self, .in(1...64))
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("code", code)
    }
}

/// A new second factor: the only time that its secret is shown.
package struct SecondFactor: WireObject, Equatable {
    /// To be typed into an app.
    package var secret: String
    /// To be shown to an app as a picture.
    package var uri: String

    /// A new second factor: the only time that its secret is shown.
    package init(secret: String, uri: String) {
        self.secret = secret
        self.uri = uri
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        secret = try reader.field("secret")
        uri = try reader.field("uri")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("secret", secret)
        writer.field("uri", uri)
    }
}

/// Codes that let somebody in who has lost the second factor, each once: shown only here.
package struct RecoveryCodes: WireObject, Equatable {
    /// The codes.
    package var codes: [String]

    /// Codes that let somebody in who has lost the second factor, each once: shown only here.
    package init(codes: [String]) {
        self.codes = codes
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        codes = try reader.field("codes")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("codes", codes)
    }
}

/// Body that changes one's own password.
package struct NewPassword: WireObject, Equatable {
    /// The password of now.
    package var current: String
    /// The new one.
    package var password: String

    /// Body that changes one's own password.
    package init(current: String, password: String) {
        self.current = current
        self.password = password
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        current = try reader.field("current", String.self, .in(1...1_024))
        password = try reader.field("password", String.self, .in(1...1_024))
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("current", current)
        writer.field("password", password)
    }
}

/// A link that works once: the only time that its text is shown.
package struct SignInLink: WireObject, Equatable {
    /// What the person shows to set a password.
    package var token: String
    /// When it ends.
    package var expiresAt: Instant

    /// A link that works once: the only time that its text is shown.
    package init(token: String, expiresAt: Instant) {
        self.token = token
        self.expiresAt = expiresAt
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        token = try reader.field("token")
        expiresAt = try reader.field("expiresAt")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("token", token)
        writer.field("expiresAt", expiresAt)
    }
}

/// Body that takes an invitation, or a link for a new password.
package struct NewAcceptance: WireObject, Equatable {
    /// The link's text.
    package var token: String
    /// The password from now on.
    package var password: String

    /// Body that takes an invitation, or a link for a new password.
    package init(token: String, password: String) {
        self.token = token
        self.password = password
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        token = try reader.field("token", String.self, .in(1...128))
        password = try reader.field("password", String.self, .in(1...1_024))
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("token", token)
        writer.field("password", password)
    }
}

/// Body that begins the sign-in of a command line.
package struct NewDeviceCode: WireObject, Equatable {
    /// What signs in, for who approves it.
    package var agent: String?

    /// Body that begins the sign-in of a command line.
    package init(agent: String? = nil) {
        self.agent = agent
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        agent = try reader.optional("agent", String.self, .in(1...200))
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("agent", agent)
    }
}

/// A sign-in that somebody has to approve (RFC 8628).
package struct DeviceCode: WireObject, Equatable {
    /// What the command line keeps.
    package var deviceCode: String
    /// What a person who has signed in approves.
    package var userCode: String
    /// How often to ask.
    package var intervalSeconds: Int
    /// When it ends.
    package var expiresAt: Instant

    /// A sign-in that somebody has to approve (RFC 8628).
    package init(deviceCode: String, userCode: String, intervalSeconds: Int, expiresAt: Instant) {
        self.deviceCode = deviceCode
        self.userCode = userCode
        self.intervalSeconds = intervalSeconds
        self.expiresAt = expiresAt
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        deviceCode = try reader.field("deviceCode")
        userCode = try reader.field("userCode")
        intervalSeconds = try reader.field("intervalSeconds")
        expiresAt = try reader.field("expiresAt")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("deviceCode", deviceCode)
        writer.field("userCode", userCode)
        writer.field("intervalSeconds", intervalSeconds)
        writer.field("expiresAt", expiresAt)
    }
}

/// Body that approves the sign-in of a command line.
package struct NewApproval: WireObject, Equatable {
    /// What the command line shows.
    package var userCode: String

    /// Body that approves the sign-in of a command line.
    package init(userCode: String) {
        self.userCode = userCode
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        userCode = try reader.field("userCode", String.self, .in(1...16))
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("userCode", userCode)
    }
}

/// Body that ends the sign-in of a command line.
package struct NewDeviceSession: WireObject, Equatable {
    /// What the command line keeps.
    package var deviceCode: String

    /// Body that ends the sign-in of a command line.
    package init(deviceCode: String) {
        self.deviceCode = deviceCode
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        deviceCode = try reader.field("deviceCode", String.self, .in(1...128))
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("deviceCode", deviceCode)
    }
}

/// That something was done.
package struct Done: WireObject, Equatable {
    /// True.
    package var done: Bool

    /// That something was done.
    package init(done: Bool = true) {
        self.done = done
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        done = try reader.field("done")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("done", done)
    }
}
