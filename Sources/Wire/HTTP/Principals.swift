package import Domain

/// Where in the tenancy something is: at most one of three ids, none is the platform.
package struct Place: WireObject, Equatable {
    /// The ids.
    package var partnerId: PartnerID?
    package var organizationId: OrganizationID?
    package var siteId: SiteID?

    /// A place; none of the ids is the platform.
    package init(
        partnerId: PartnerID? = nil, organizationId: OrganizationID? = nil, siteId: SiteID? = nil
    ) {
        self.partnerId = partnerId
        self.organizationId = organizationId
        self.siteId = siteId
    }

    /// Reads the fields; more than one id is refused.
    package init(from reader: inout FieldReader) throws(FieldError) {
        partnerId = try reader.optional("partnerId")
        organizationId = try reader.optional("organizationId")
        siteId = try reader.optional("siteId")
        if [partnerId != nil, organizationId != nil, siteId != nil].count(where: { $0 }) > 1 {
            throw FieldError(
                .invalid, field: reader.name(of: "partnerId"),
                "only one of partnerId, organizationId and siteId may be given")
        }
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("partnerId", partnerId)
        writer.field("organizationId", organizationId)
        writer.field("siteId", siteId)
    }

    /// The level.
    package var level: Level {
        if let partnerId { return .partner(partnerId) }
        if let organizationId { return .organization(organizationId) }
        if let siteId { return .site(siteId) }
        return .platform
    }
}

/// Body that makes a person.
package struct NewUser: WireObject, Equatable {
    /// How the person signs in.
    package var email: String
    /// Shown to others.
    package var name: String
    /// Where the person is at home: a partner, an organization or the platform.
    package var home: Place

    /// A person to be made.
    package init(email: String, name: String, home: Place = Place()) {
        self.email = email
        self.name = name
        self.home = home
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        email = try reader.field("email", EmailAddress.self).text
        name = try reader.field("name", String.self, .in(Limits.nameBytes))
        home = try Place(from: &reader)
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("email", email)
        writer.field("name", name)
        home.fields(to: &writer)
    }
}

/// Body that edits a person; what is absent stays.
package struct NewUserChanges: WireObject, Equatable {
    /// The new name.
    package var name: String?
    /// Whether the person may sign in.
    package var disabled: Bool?

    /// An edit.
    package init(name: String? = nil, disabled: Bool? = nil) {
        self.name = name
        self.disabled = disabled
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        name = try reader.optional("name", String.self, .in(Limits.nameBytes))
        disabled = try reader.optional("disabled")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("name", name)
        writer.field("disabled", disabled)
    }
}

/// A person as shown.
package struct User: WireObject, Versioned, Equatable {
    /// Its id.
    package var id: UserID
    /// How the person signs in, and what others see.
    package var email: String
    package var name: String
    /// Where the person is at home.
    package var home: Place
    /// Whether the person may sign in.
    package var state: UserState
    /// How often it was edited, from 1: the number in its `ETag`.
    package var version: Int
    /// When it was made, and edited last.
    package var createdAt: Instant
    package var updatedAt: Instant

    /// A person as shown.
    package init(
        id: UserID, email: String, name: String, home: Place, state: UserState, version: Int,
        createdAt: Instant, updatedAt: Instant
    ) {
        self.id = id
        self.email = email
        self.name = name
        self.home = home
        self.state = state
        self.version = version
        self.createdAt = createdAt
        self.updatedAt = updatedAt
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        id = try reader.field("id")
        email = try reader.field("email")
        name = try reader.field("name")
        home = try Place(from: &reader)
        state = try reader.field("state")
        version = try reader.field("version")
        createdAt = try reader.field("createdAt")
        updatedAt = try reader.field("updatedAt")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("id", id)
        writer.field("email", email)
        writer.field("name", name)
        home.fields(to: &writer)
        writer.field("state", state)
        writer.field("version", version)
        writer.field("createdAt", createdAt)
        writer.field("updatedAt", updatedAt)
    }
}

/// Body that makes a role.
package struct NewRole: WireObject, Equatable {
    /// Shown to others.
    package var name: String
    /// What it holds: `resource:verb`.
    package var permissions: [String]
    /// Whose it is: a partner's, an organization's or the platform's.
    package var home: Place

    /// A role to be made.
    package init(name: String, permissions: [String], home: Place = Place()) {
        self.name = name
        self.permissions = permissions
        self.home = home
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        name = try reader.field("name", String.self, .in(Limits.nameBytes))
        permissions = try reader.field("permissions", [String].self, .in(1...64, elements: 1...64))
        home = try Place(from: &reader)
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("name", name)
        writer.field("permissions", permissions)
        home.fields(to: &writer)
    }
}

/// Body that edits a role; what is absent stays.
package struct NewRoleChanges: WireObject, Equatable {
    /// The new name.
    package var name: String?
    /// All that it holds from now on.
    package var permissions: [String]?

    /// An edit.
    package init(name: String? = nil, permissions: [String]? = nil) {
        self.name = name
        self.permissions = permissions
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        name = try reader.optional("name", String.self, .in(Limits.nameBytes))
        permissions = try reader.optional("permissions", [String].self, .in(1...64, elements: 1...64))
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("name", name)
        writer.field("permissions", permissions)
    }
}

/// A role as shown.
package struct Role: WireObject, Versioned, Equatable {
    /// Its id; a role that is built in has none, and is named by its name.
    package var id: RoleID?
    /// Shown to others.
    package var name: String
    /// Whether every installation has it.
    package var builtin: Bool
    /// What it holds.
    package var permissions: [String]
    /// Whose it is.
    package var home: Place
    /// How often it was edited, from 1: the number in its `ETag`.
    package var version: Int

    /// A role as shown.
    package init(
        id: RoleID?, name: String, builtin: Bool, permissions: [String], home: Place, version: Int
    ) {
        self.id = id
        self.name = name
        self.builtin = builtin
        self.permissions = permissions
        self.home = home
        self.version = version
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        id = try reader.optional("id")
        name = try reader.field("name")
        builtin = try reader.field("builtin")
        permissions = try reader.field("permissions")
        home = try Place(from: &reader)
        version = try reader.field("version")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("id", id)
        writer.field("name", name)
        writer.field("builtin", builtin)
        writer.field("permissions", permissions)
        home.fields(to: &writer)
        writer.field("version", version)
    }
}

/// Body that gives a person a role on a level.
package struct NewBinding: WireObject, Equatable {
    /// Who gets it.
    package var userId: UserID
    /// A role that is built in, by its name; or one that was made, by its id.
    package var role: String?
    package var roleId: RoleID?
    /// Where: one level, or the platform.
    package var place: Place

    /// A binding to be made.
    package init(userId: UserID, role: String? = nil, roleId: RoleID? = nil, place: Place = Place()) {
        self.userId = userId
        self.role = role
        self.roleId = roleId
        self.place = place
    }

    /// Reads the fields; exactly one role must be named.
    package init(from reader: inout FieldReader) throws(FieldError) {
        userId = try reader.field("userId")
        role = try reader.optional("role", String.self, .in(1...64))
        roleId = try reader.optional("roleId")
        place = try Place(from: &reader)
        if !reader.isRecording, (role == nil) == (roleId == nil) {
            throw FieldError(
                .invalid, field: reader.name(of: "role"), "exactly one of role and roleId must be given")
        }
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("userId", userId)
        writer.field("role", role)
        writer.field("roleId", roleId)
        place.fields(to: &writer)
    }
}

/// A person's role on a level, as shown.
package struct Binding: WireObject, Equatable {
    /// Its id, and whose it is.
    package var id: BindingID
    package var userId: UserID
    /// A role that is built in, by its name; or one that was made, by its id.
    package var role: String?
    package var roleId: RoleID?
    /// Where.
    package var place: Place
    /// When it ends unless it is used, and when it was made.
    package var expiresAt: Instant
    package var createdAt: Instant

    /// A binding as shown.
    package init(
        id: BindingID, userId: UserID, role: String?, roleId: RoleID?, place: Place, expiresAt: Instant,
        createdAt: Instant
    ) {
        self.id = id
        self.userId = userId
        self.role = role
        self.roleId = roleId
        self.place = place
        self.expiresAt = expiresAt
        self.createdAt = createdAt
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        id = try reader.field("id")
        userId = try reader.field("userId")
        role = try reader.optional("role")
        roleId = try reader.optional("roleId")
        place = try Place(from: &reader)
        expiresAt = try reader.field("expiresAt")
        createdAt = try reader.field("createdAt")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("id", id)
        writer.field("userId", userId)
        writer.field("role", role)
        writer.field("roleId", roleId)
        place.fields(to: &writer)
        writer.field("expiresAt", expiresAt)
        writer.field("createdAt", createdAt)
    }
}

/// Who is calling, and what they may do where.
package struct Caller: WireObject, Equatable {
    /// `key` or `user`, and its id.
    package var kind: String
    package var id: PrincipalID
    /// Until when the credential is good.
    package var expiresAt: Instant
    /// Each permission with where it may be used.
    package var permissions: [Reach]

    /// A permission and where it may be used.
    package struct Reach: WireObject, Equatable {
        /// The permission.
        package var permission: String
        /// `platform`, `partner`, `organizations` or `site`.
        package var level: String
        /// The ids of that level; none of the platform.
        package var ids: [ID<Subject.Tenant>]

        /// A permission somewhere.
        package init(permission: String, level: String, ids: [ID<Subject.Tenant>]) {
            self.permission = permission
            self.level = level
            self.ids = ids
        }

        /// Reads the fields.
        package init(from reader: inout FieldReader) throws(FieldError) {
            permission = try reader.field("permission")
            level = try reader.field("level")
            ids = try reader.field("ids")
        }

        /// Appends the fields.
        package func fields(to writer: inout JSONWriter) {
            writer.field("permission", permission)
            writer.field("level", level)
            writer.field("ids", ids)
        }
    }

    /// Who is calling.
    package init(kind: String, id: PrincipalID, expiresAt: Instant, permissions: [Reach]) {
        self.kind = kind
        self.id = id
        self.expiresAt = expiresAt
        self.permissions = permissions
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        kind = try reader.field("kind")
        id = try reader.field("id")
        expiresAt = try reader.field("expiresAt")
        permissions = try reader.field("permissions")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("kind", kind)
        writer.field("id", id)
        writer.field("expiresAt", expiresAt)
        writer.field("permissions", permissions)
    }
}
