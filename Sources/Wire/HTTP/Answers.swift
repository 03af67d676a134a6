package import Domain

/// A refusal as RFC 9457 has it.
package struct Problem: WireObject, Error, Equatable {
    /// A stable word for programs.
    package var code: String
    /// The HTTP status.
    package var status: Int
    /// The code in words, the same for every occurrence.
    package var title: String
    /// What is wrong here, and which limit was passed.
    package var detail: String
    /// The field that was refused.
    package var field: String?
    /// The request's id, as the log has it.
    package var requestId: String?
    /// When it may be worth asking again, where that is known; an item of a bulk has no header for it.
    package var retryAfterSeconds: Int?
    /// How many devices it would reach, where that is what has to be confirmed or approved.
    package var devices: Int?

    /// A problem.
    package init(
        code: String, status: Int, title: String, detail: String, field: String? = nil,
        requestId: String? = nil
    ) {
        self.code = code
        self.status = status
        self.title = title
        self.detail = detail
        self.field = field
        self.requestId = requestId
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        code = try reader.field("code")
        status = try reader.field("status")
        title = try reader.field("title")
        detail = try reader.field("detail")
        field = try reader.optional("field")
        requestId = try reader.optional("requestId")
        retryAfterSeconds = try reader.optional("retryAfterSeconds")
        devices = try reader.optional("devices")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("code", code)
        writer.field("status", status)
        writer.field("title", title)
        writer.field("detail", detail)
        writer.field("field", field)
        writer.field("requestId", requestId)
        writer.field("retryAfterSeconds", retryAfterSeconds)
        writer.field("devices", devices)
    }
}

/// One page of a list.
package struct Page<Item: WireObject>: WireObject {
    /// The items.
    package var items: [Item]
    /// The cursor of the next page; absent on the last.
    package var next: String?

    /// A page.
    package init(items: [Item], next: String?) {
        self.items = items
        self.next = next
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        items = try reader.field("items")
        next = try reader.optional("next")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("items", items)
        writer.field("next", next)
    }
}

/// One organization's queue of one priority as it is shown.
package struct QueueStatus: WireObject, Equatable {
    /// Whose queue, and which.
    package var organizationId: OrganizationID
    package var priority: Priority
    /// Runs that may run now, as PostgreSQL counts them, and the age of the oldest in seconds. A long queue
    /// is not counted to its end: where `exact` is false there are about so many runs, by the counter of the
    /// organization's open runs.
    package var depth: Int
    package var exact: Bool
    package var oldestAgeSeconds: Double?
    /// Runs that wait for their device.
    package var waiting: Int
    /// Runs that are on devices, and the most that may be.
    package var running: Int
    package var cap: Int?
    /// Its weight, its part of the work in the last minute, and the part that its weight entitles it to.
    package var weight: Double
    package var share: Double?
    package var entitlement: Double?
    /// Runs settled a second over the last minute.
    package var drainRate: Double?

    /// A queue as it is shown.
    package init(
        organizationId: OrganizationID, priority: Priority, depth: Int, exact: Bool = true,
        oldestAgeSeconds: Double?, waiting: Int,
        running: Int, cap: Int?, weight: Double, share: Double?, entitlement: Double?, drainRate: Double?
    ) {
        self.organizationId = organizationId
        self.priority = priority
        self.depth = depth
        self.exact = exact
        self.oldestAgeSeconds = oldestAgeSeconds
        self.waiting = waiting
        self.running = running
        self.cap = cap
        self.weight = weight
        self.share = share
        self.entitlement = entitlement
        self.drainRate = drainRate
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        organizationId = try reader.field("organizationId")
        priority = try reader.field("priority")
        depth = try reader.field("depth")
        exact = try reader.field("exact")
        oldestAgeSeconds = try reader.optional("oldestAgeSeconds")
        waiting = try reader.field("waiting")
        running = try reader.field("running")
        cap = try reader.optional("cap")
        weight = try reader.field("weight")
        share = try reader.optional("share")
        entitlement = try reader.optional("entitlement")
        drainRate = try reader.optional("drainRate")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("organizationId", organizationId)
        writer.field("priority", priority)
        writer.field("depth", depth)
        writer.field("exact", exact)
        writer.field("oldestAgeSeconds", oldestAgeSeconds)
        writer.field("waiting", waiting)
        writer.field("running", running)
        writer.field("cap", cap)
        writer.field("weight", weight)
        writer.field("share", share)
        writer.field("entitlement", entitlement)
        writer.field("drainRate", drainRate)
    }
}

/// Nothing but success: the body of answers that carry no value.
package struct Empty: WireObject, Equatable {
    /// No fields.
    package init() {}

    /// No fields.
    package init(from reader: inout FieldReader) throws(FieldError) {}

    /// No fields.
    package func fields(to writer: inout JSONWriter) {}
}
