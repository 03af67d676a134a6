import HTTPTypes
import Wire

/// The parameters of an operation: of its path, its query and its headers.
enum Parameters {
    /// The parameters of a route as OpenAPI has them.
    static func of(_ route: Route) -> JSON {
        let uuid = Shape.string(format: "uuid", allowed: [], limit: .none)
        let inPath = route.parameterNames.map {
            parameter(Shape.Field(name: $0, shape: uuid, isRequired: true), in: "path", of: route)
        }
        let inQuery = route.query.map { parameter($0, in: "query", of: route) }
        return .array(
            inPath + inQuery + headers(of: route).map { parameter($0, in: "header", of: route) })
    }

    /// A value that a route takes.
    static func example(_ field: Shape.Field, of route: Route) -> JSON {
        if field == FieldSelection.parameter, case .json(let answer) = route.answer {
            return .string(FieldSelection.example(of: answer))
        }
        return Examples.parameter(field)
    }

    private static func headers(of route: Route) -> [Shape.Field] {
        func header(_ name: String, _ limit: ClosedRange<Int>) -> Shape.Field {
            Shape.Field(
                name: name, shape: .string(format: nil, allowed: [], limit: .in(limit)), isRequired: false)
        }
        return (route.takesIdempotencyKey ? [header("Idempotency-Key", Limits.idempotencyKeyBytes)] : [])
            + (route.takesIfMatch ? [header("If-Match", 1...64)] : [])
    }

    private static func parameter(_ field: Shape.Field, in place: String, of route: Route) -> JSON {
        .object([
            JSONMember(name: "name", value: .string(field.name)),
            JSONMember(name: "in", value: .string(place)),
            JSONMember(name: "description", value: .string(descriptions[field.name] ?? "")),
            JSONMember(name: "required", value: .bool(field.isRequired)),
            JSONMember(name: "schema", value: Components.schema(field.shape)),
            JSONMember(name: "example", value: example(field, of: route)),
        ])
    }

    /// What each name means, wherever it stands.
    private static let descriptions = [
        "id": "Which one.", "limit": "How many items a page has at most.",
        "cursor": "Where to go on: the next of the page before.",
        "sort": "By when it was made: createdAt, or -createdAt for the newest first.",
        "fields": "Only these fields of what is shown, with commas between; of a list those of its items.",
        "state": "Only those in this state.", "partnerId": "Only those of this partner.",
        "organizationId": "Only those of this organization.", "siteId": "Only those of this site.",
        "jobId": "Only those of this job.", "userId": "Only those of this person.",
        "online": "Only those that have, or do not have, a session now.",
        "confirmDevices": "The exact number of devices that it reaches, where that has to be said.",
        "providerId": "Only those of this issuer.",
        "tag": "Only those with this tag.", "platform": "Only those of this platform.",
        "search": "Only those whose host name or display name contains this.",
        "reason": "Only those with this reason.", "since": "Only what is not older.",
        "until": "Only what is not newer.", "kind": "Only those of this kind.",
        "logId": "Only the log of this organization or partner.",
        "actorId": "Only what this key or person did.", "subjectId": "Only what was done to this.",
        "action": "Only actions that begin so.", "refused": "Only what was refused, or was not.",
        "Idempotency-Key": "Names the request: sent again with the same body, it is answered as before.",
        "If-Match": "The ETag that was read: if it was changed since, the call is refused.",
    ]
}
