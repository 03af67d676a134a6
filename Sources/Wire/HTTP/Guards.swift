package import Domain

/// Body that edits a partner's guard; what is absent stays.
package struct NewGuardChanges: WireObject, Equatable {
    /// A submission that reaches more devices than this has their number confirmed.
    package var confirmAbove: Int?
    /// One that reaches more than this waits for a second person; null is that none does.
    package var approveAbove: FieldChange<Int>
    /// All permissions that a person uses only with a fresh second factor.
    package var stepUpPermissions: [String]?
    /// For how many seconds a second factor is fresh.
    package var stepUpSeconds: Int?

    /// An edit.
    package init(
        confirmAbove: Int? = nil, approveAbove: FieldChange<Int> = .keep, stepUpPermissions: [String]? = nil,
        stepUpSeconds: Int? = nil
    ) {
        self.confirmAbove = confirmAbove
        self.approveAbove = approveAbove
        self.stepUpPermissions = stepUpPermissions
        self.stepUpSeconds = stepUpSeconds
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        confirmAbove = try reader.optional("confirmAbove", Int.self, .in(Limits.guardDevices))
        approveAbove = try reader.change("approveAbove", Int.self, .in(Limits.guardDevices))
        stepUpPermissions = try reader.optional(
            "stepUpPermissions", [String].self, .in(Limits.guardPermissions))
        stepUpSeconds = try reader.optional("stepUpSeconds", Int.self, .in(Limits.stepUpSeconds))
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("confirmAbove", confirmAbove)
        writer.field("approveAbove", approveAbove)
        writer.field("stepUpPermissions", stepUpPermissions)
        writer.field("stepUpSeconds", stepUpSeconds)
    }
}

/// A partner's guard as it is shown: how far one act may reach without more ado.
package struct PartnerGuard: WireObject, Versioned, Equatable {
    /// Whose it is.
    package var partnerId: PartnerID
    /// A submission that reaches more devices than this has their number confirmed.
    package var confirmAbove: Int
    /// One that reaches more than this waits for a second person; absent if none does.
    package var approveAbove: Int?
    /// Permissions that a person uses only with a fresh second factor, and for how many seconds it is fresh.
    package var stepUpPermissions: [String]
    package var stepUpSeconds: Int
    /// How often it was edited, from 1, which is what holds until somebody edits it: the number in its
    /// `ETag`.
    package var version: Int
    /// When it was edited last.
    package var updatedAt: Instant

    /// A guard as it is shown.
    package init(
        partnerId: PartnerID, confirmAbove: Int, approveAbove: Int?, stepUpPermissions: [String],
        stepUpSeconds: Int, version: Int, updatedAt: Instant
    ) {
        self.partnerId = partnerId
        self.confirmAbove = confirmAbove
        self.approveAbove = approveAbove
        self.stepUpPermissions = stepUpPermissions
        self.stepUpSeconds = stepUpSeconds
        self.version = version
        self.updatedAt = updatedAt
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        partnerId = try reader.field("partnerId")
        confirmAbove = try reader.field("confirmAbove")
        approveAbove = try reader.optional("approveAbove")
        stepUpPermissions = try reader.field("stepUpPermissions")
        stepUpSeconds = try reader.field("stepUpSeconds")
        version = try reader.field("version")
        updatedAt = try reader.field("updatedAt")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("partnerId", partnerId)
        writer.field("confirmAbove", confirmAbove)
        writer.field("approveAbove", approveAbove)
        writer.field("stepUpPermissions", stepUpPermissions)
        writer.field("stepUpSeconds", stepUpSeconds)
        writer.field("version", version)
        writer.field("updatedAt", updatedAt)
    }
}
