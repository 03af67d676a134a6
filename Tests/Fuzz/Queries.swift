import HTTPTypes
import Wire

@testable import API

/// A type of a query, and the fields that it reads.
private struct QueryType {
    let type: any WireObject.Type
    let fields: [Shape.Field]

    init<Query: WireObject>(_ type: Query.Type) {
        (self.type, fields) = (type, Query.shape(.none).fields)
    }
}

private let queryTypes: [QueryType] = [
    QueryType(ApprovalQuery.self), QueryType(AuditQuery.self), QueryType(BindingQuery.self),
    QueryType(DeadLetterQuery.self), QueryType(DeviceQuery.self), QueryType(OIDCLinkQuery.self),
    QueryType(OrganizationQuery.self), QueryType(OrganizationsQuery.self), QueryType(PageQuery.self),
    QueryType(QueueQuery.self), QueryType(SitesQuery.self), QueryType(SortedQuery.self),
    QueryType(TaskQuery.self), QueryType(TenantQuery.self),
]

private let answers = [Device.shape(.none), Page<Device>.shape(.none)]

func checkQuery(_ bytes: [UInt8]) {
    let text = Substring(String(decoding: bytes, as: UTF8.self))
    for query in queryTypes {
        let value = accepted { try JSONValue(QueryText.json(of: text, query.fields)) }
        if let value { checkObject(query.type, value) }
    }
    for answer in answers { _ = accepted { try FieldSelection(text, of: answer) } }
    if case .route(let route, let parameters) = Handlers.notSupportedYet.match(.get, text) {
        promise(parameters.count == route.parameterNames.count, "a path lacks a parameter")
    }
}

func checkCursor(_ bytes: [UInt8]) {
    let value = JSON.string(String(decoding: bytes, as: UTF8.self))
    // A place has one text.
    if let cursor = accepted({ try Cursor.read(value, .none, field: "cursor") }) {
        promise(.string(Cursor.text(after: cursor.last)) == value, "a cursor has two texts")
    }
    if let cursor = accepted({ try QueueCursor.read(value, .none, field: "cursor") }) {
        promise(.string(cursor.text) == value, "a cursor of queues has two texts")
    }
}
