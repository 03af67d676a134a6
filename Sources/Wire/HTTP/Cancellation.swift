package import Domain

/// Body that names the open jobs to be cancelled.
///
/// An organization or a site is named, or all are meant in so many words; the rest narrows that down. With
/// `dryRun` nothing is cancelled and the answer says how many match.
package struct CancelRequest: WireObject, Equatable {
    /// Whose jobs; of a site, those whose whole target belongs to it.
    package var organizationId: OrganizationID?
    package var siteId: SiteID?
    package var allOrganizations: Bool
    /// What they do, how soon, and in which state they are.
    package var kind: JobKind?
    package var priority: Priority?
    package var state: JobState?
    /// When they were submitted, exclusively.
    package var createdAfter: Instant?
    package var createdBefore: Instant?
    /// Whether only to count.
    package var dryRun: Bool
    /// How many there must be, exactly; above a limit it must be given.
    package var expectedCount: Int?

    /// All open jobs of an organization or a site; of all organizations if neither is named.
    package init(organization: OrganizationID? = nil, site: SiteID? = nil) {
        (organizationId, siteId) = (organization, site)
        allOrganizations = organization == nil && site == nil
        dryRun = false
    }

    /// The field that says whose jobs are meant.
    package var scopeField: String {
        siteId != nil ? "siteId" : organizationId != nil ? "organizationId" : "allOrganizations"
    }

    /// Reads the fields; nothing at all would be everything, and is too easily said by mistake.
    package init(from reader: inout FieldReader) throws(FieldError) {
        organizationId = try reader.optional("organizationId")
        siteId = try reader.optional("siteId")
        allOrganizations = try reader.optional("allOrganizations") ?? false
        kind = try reader.optional("kind")
        priority = try reader.optional("priority")
        state = try reader.optional("state")
        createdAfter = try reader.optional("createdAfter")
        createdBefore = try reader.optional("createdBefore")
        dryRun = try reader.optional("dryRun") ?? false
        expectedCount = try reader.optional("expectedCount", Int.self, .in(1...Limits.cancelledJobsMax))
        guard !reader.isRecording else { return }
        guard [organizationId != nil, siteId != nil, allOrganizations].count(where: \.self) == 1 else {
            throw FieldError(
                .invalid, field: reader.name(of: "organizationId"),
                "exactly one of organizationId, siteId and allOrganizations: true must be given")
        }
        if let state, state.isEnd {
            throw FieldError(
                .invalid, field: reader.name(of: "state"),
                "is \(state.name), which is an end; only accepted, active and paused jobs can be cancelled")
        }
        if let createdAfter, let createdBefore, createdAfter >= createdBefore {
            throw FieldError(
                .invalid, field: reader.name(of: "createdBefore"),
                "is \(createdBefore); it must be later than createdAfter, which is \(createdAfter)")
        }
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("organizationId", organizationId)
        writer.field("siteId", siteId)
        if allOrganizations { writer.field("allOrganizations", true) }
        writer.field("kind", kind)
        writer.field("priority", priority)
        writer.field("state", state)
        writer.field("createdAfter", createdAfter)
        writer.field("createdBefore", createdBefore)
        writer.field("dryRun", dryRun)
        writer.field("expectedCount", expectedCount)
    }
}

/// What a request to cancel jobs came to.
package struct CancelledJobs: WireObject, Equatable {
    /// How many open jobs matched.
    package var matched: Int
    /// How many of them have the request, and how many ended before it came.
    package var cancelled: Int
    package var ended: Int
    /// Whether they were only counted.
    package var dryRun: Bool

    /// What a request came to.
    package init(matched: Int, cancelled: Int = 0, ended: Int = 0, dryRun: Bool = false) {
        self.matched = matched
        self.cancelled = cancelled
        self.ended = ended
        self.dryRun = dryRun
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        matched = try reader.field("matched")
        cancelled = try reader.field("cancelled")
        ended = try reader.field("ended")
        dryRun = try reader.field("dryRun")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("matched", matched)
        writer.field("cancelled", cancelled)
        writer.field("ended", ended)
        writer.field("dryRun", dryRun)
    }
}
