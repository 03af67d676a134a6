import Domain
import Ledger
import Trust
import Wire

/// The query of the list of queues, whose place is an organization and a priority.
struct QueueQuery: WireObject {
    var limit = Limits.pageDefault
    var cursor: QueueCursor?

    init(from reader: inout FieldReader) throws(FieldError) {
        limit = try reader.optional("limit", Int.self, .in(Limits.page)) ?? Limits.pageDefault
        cursor = try reader.optional("cursor")
    }

    func fields(to writer: inout JSONWriter) {
        writer.field("limit", limit)
        writer.field("cursor", cursor?.text)
    }

    /// The page of queues that were read with one more than its limit.
    func page(_ queues: [QueueStatus]) -> Page<QueueStatus> {
        let shown = queues.prefix(limit)
        let next = shown.last.flatMap { last in
            queues.count > limit
                ? QueueCursor(last: OrganizationQueue(last.organizationId, last.priority)).text : nil
        }
        return Page(items: Array(shown), next: next)
    }
}

/// A place in the list of queues, opaque to callers: the 16 bytes of an organization's id and a priority's.
struct QueueCursor: JSONReadable {
    let last: OrganizationQueue

    static func read(_ value: JSONValue, _ limit: FieldLimit) throws(FieldError) -> QueueCursor {
        guard let bytes = value.string.flatMap(Base64URL.decode), bytes.count == 17,
            let id = UniqueID(bytes: bytes[..<16]), let priority = Priority(rawValue: Int16(bytes[16]))
        else {
            throw FieldError(.invalid, "is no cursor: take the value of next of the page before")
        }
        return QueueCursor(last: OrganizationQueue(OrganizationID(id), priority))
    }

    /// What the description calls its text.
    static let format = "queue-cursor"

    static func shape(_ limit: FieldLimit) -> Shape {
        .string(format: Self.format, allowed: [], limit: .none)
    }

    /// The text of a place after an organization.
    static func example(_ id: UniqueID) -> String {
        QueueCursor(last: OrganizationQueue(OrganizationID(id), .standard)).text
    }

    static var placeholder: QueueCursor { QueueCursor(last: OrganizationQueue(OrganizationID(.zero), .bulk)) }

    var text: String { Base64URL.encode(last.organization.bytes + [UInt8(last.priority.rawValue)]) }
}
