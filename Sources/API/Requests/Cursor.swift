import Domain
import Ledger
import Trust
import Wire

/// A place in a list, opaque to callers: the id of the last item that they have.
struct Cursor: JSONReadable {
    let last: UniqueID

    static func read(_ value: JSONValue, _ limit: FieldLimit) throws(FieldError) -> Cursor {
        guard let text = value.string, let id = Base64URL.decode(text).flatMap({ UniqueID(bytes: $0) }) else {
            throw FieldError(.invalid, "is no cursor: take the value of next of the page before")
        }
        return Cursor(last: id)
    }

    /// What the description calls its text.
    static let format = "cursor"

    static func shape(_ limit: FieldLimit) -> Shape {
        .string(format: Self.format, allowed: [], limit: .none)
    }

    static var placeholder: Cursor { Cursor(last: .zero) }

    /// The text after which a page goes on.
    static func text(after id: UniqueID) -> String { Base64URL.encode(id.bytes) }
}

/// The query of every list.
struct PageQuery: WireObject {
    var limit = Limits.pageDefault
    var cursor: Cursor?

    init(from reader: inout FieldReader) throws(FieldError) {
        limit = try reader.optional("limit", Int.self, .in(Limits.page)) ?? Limits.pageDefault
        cursor = try reader.optional("cursor")
    }

    func fields(to writer: inout JSONWriter) {
        writer.field("limit", limit)
        writer.field("cursor", cursor.map { Cursor.text(after: $0.last) })
    }

    /// What to read: one more than is shown, which tells whether there is a next page.
    var request: PageRequest { PageRequest(after: cursor?.last, limit: limit + 1) }

    /// The page of rows that were read with one more than its limit.
    func page<Row, Item: WireObject>(
        _ rows: [Row], id: (Row) -> UniqueID, _ item: (Row) throws -> Item
    ) rethrows -> Page<Item> {
        let shown = rows.prefix(limit)
        let next = rows.count > limit ? shown.last.map { Cursor.text(after: id($0)) } : nil
        return Page(items: try shown.map(item), next: next)
    }
}

/// By what a list is sorted. Ids are made in the order of time, so the index of ids is that of creation.
enum SortOrder: String, WireWord {
    case oldest = "createdAt"
    case newest = "-createdAt"

    var word: String { rawValue }
}

/// The query of lists that can be sorted.
struct SortedQuery: WireObject {
    var page: PageQuery
    var sort = SortOrder.oldest

    init(from reader: inout FieldReader) throws(FieldError) {
        sort = try reader.optional("sort") ?? .oldest
        page = try PageQuery(from: &reader)
    }

    func fields(to writer: inout JSONWriter) {
        writer.field("sort", sort)
        page.fields(to: &writer)
    }

    /// What to read.
    var request: PageRequest { request(after: page.cursor?.last, limit: page.limit + 1) }

    /// What to read after an id.
    func request(after id: UniqueID?, limit: Int) -> PageRequest {
        PageRequest(after: id, limit: limit, isDescending: sort == .newest)
    }
}

/// Whether a list shows what is in use, what is archived, or both.
enum StateFilter: String, WireWord {
    case active, archived, all

    var word: String { rawValue }
}

/// The query of the list of partners.
struct TenantQuery: WireObject {
    var sorted: SortedQuery
    var state = StateFilter.active

    init(from reader: inout FieldReader) throws(FieldError) {
        state = try reader.optional("state") ?? .active
        sorted = try SortedQuery(from: &reader)
    }

    func fields(to writer: inout JSONWriter) {
        writer.field("state", state)
        sorted.fields(to: &writer)
    }

    var page: PageQuery { sorted.page }

    /// What the ledger asks.
    var request: PageRequest { sorted.request }
    var isArchived: Bool? {
        switch state {
        case .active: false
        case .archived: true
        case .all: nil
        }
    }
}

/// The query of the list of organizations.
struct OrganizationsQuery: WireObject {
    var tenant: TenantQuery
    var partnerId: PartnerID?

    init(from reader: inout FieldReader) throws(FieldError) {
        partnerId = try reader.optional("partnerId")
        tenant = try TenantQuery(from: &reader)
    }

    func fields(to writer: inout JSONWriter) {
        writer.field("partnerId", partnerId)
        tenant.fields(to: &writer)
    }

    var page: PageQuery { tenant.page }
    var request: PageRequest { tenant.request }
    var isArchived: Bool? { tenant.isArchived }
}

/// The query of the list of sites.
struct SitesQuery: WireObject {
    var tenant: TenantQuery
    var organizationId: OrganizationID?

    init(from reader: inout FieldReader) throws(FieldError) {
        organizationId = try reader.optional("organizationId")
        tenant = try TenantQuery(from: &reader)
    }

    func fields(to writer: inout JSONWriter) {
        writer.field("organizationId", organizationId)
        tenant.fields(to: &writer)
    }

    var page: PageQuery { tenant.page }
    var request: PageRequest { tenant.request }
    var isArchived: Bool? { tenant.isArchived }
}

/// The query of the list of enrolment tokens.
struct EnrollmentTokenQuery: WireObject {
    var sorted: SortedQuery
    var organizationId: OrganizationID?
    var siteId: SiteID?

    init(from reader: inout FieldReader) throws(FieldError) {
        organizationId = try reader.optional("organizationId")
        siteId = try reader.optional("siteId")
        sorted = try SortedQuery(from: &reader)
    }

    func fields(to writer: inout JSONWriter) {
        writer.field("organizationId", organizationId)
        writer.field("siteId", siteId)
        sorted.fields(to: &writer)
    }
}

/// The query of the list of bindings.
struct BindingQuery: WireObject {
    var page: PageQuery
    var userId: UserID?

    init(from reader: inout FieldReader) throws(FieldError) {
        userId = try reader.optional("userId")
        page = try PageQuery(from: &reader)
    }

    func fields(to writer: inout JSONWriter) {
        writer.field("userId", userId)
        page.fields(to: &writer)
    }
}

/// The query of lists that can be narrowed to an organization.
struct OrganizationQuery: WireObject {
    var page: PageQuery
    var organizationId: OrganizationID?

    init(from reader: inout FieldReader) throws(FieldError) {
        organizationId = try reader.optional("organizationId")
        page = try PageQuery(from: &reader)
    }

    func fields(to writer: inout JSONWriter) {
        writer.field("organizationId", organizationId)
        page.fields(to: &writer)
    }
}

/// The query of the list of dead letters.
struct DeadLetterQuery: WireObject {
    var page: PageQuery
    var organizationId: OrganizationID?
    var jobId: JobID?
    var reason: String?
    var since: Instant?

    init(from reader: inout FieldReader) throws(FieldError) {
        organizationId = try reader.optional("organizationId")
        jobId = try reader.optional("jobId")
        reason = try reader.optional("reason", String.self, .in(1...20))
        since = try reader.optional("since")
        page = try PageQuery(from: &reader)
    }

    func fields(to writer: inout JSONWriter) {
        writer.field("organizationId", organizationId)
        writer.field("jobId", jobId)
        writer.field("reason", reason)
        writer.field("since", since)
        page.fields(to: &writer)
    }
}

/// The query of the list of devices.
struct DeviceQuery: WireObject {
    var sorted: SortedQuery
    var organizationId: OrganizationID?
    var siteId: SiteID?
    var online: Bool?
    /// A tag, a platform, a state, or a part of host name or display name.
    var tag: String?
    var platform: String?
    var state: DeviceState?
    var search: String?

    init(from reader: inout FieldReader) throws(FieldError) {
        organizationId = try reader.optional("organizationId")
        siteId = try reader.optional("siteId")
        online = try reader.optional("online")
        tag = try reader.optional("tag", String.self, .in(Limits.tagBytes))
        platform = try reader.optional("platform", String.self, .in(1...64))
        state = try reader.optional("state")
        search = try reader.optional("search", String.self, .in(1...100))
        sorted = try SortedQuery(from: &reader)
    }

    func fields(to writer: inout JSONWriter) {
        writer.field("organizationId", organizationId)
        writer.field("siteId", siteId)
        writer.field("online", online)
        writer.field("tag", tag)
        writer.field("platform", platform)
        writer.field("state", state)
        writer.field("search", search)
        sorted.fields(to: &writer)
    }

    var page: PageQuery { sorted.page }
}

extension DeviceQuery {
    /// What the ledger asks; presence is not its to know.
    var filter: DeviceFilter {
        var filter = DeviceFilter(organization: organizationId, site: siteId)
        (filter.tag, filter.platform, filter.state, filter.text) = (tag, platform, state, search)
        return filter
    }
}
