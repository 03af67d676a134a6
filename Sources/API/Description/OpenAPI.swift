import Access
import HTTPTypes
import Wire

/// The OpenAPI 3.1 document of a table of routes.
///
/// Objects become components by the name of their type; everything else stands where it is used. Bodies are
/// strict (`additionalProperties: false`), since unknown fields are refused; answers may grow.
enum OpenAPI {
    /// The document as JSON text.
    static func document(of routes: [Route]) -> [UInt8] {
        var components = Components()
        components.add(Problem.shape(.none))
        let paths = Dictionary(grouping: routes, by: \.path)
        var writer = JSONWriter()
        writer.object { writer in
            writer.field("openapi", "3.1.0")
            writer.object("info") { writer in
                writer.field("title", "CloudRMM")
                writer.field("version", "1")
                writer.field(
                    "description",
                    "Work on fleets of devices of many customers. Refusals are problems of RFC 9457 with a "
                        + "stable code; lists have a cursor.")
            }
            writer.object("paths") { writer in
                for path in paths.keys.sorted() {
                    writer.object(path) { writer in
                        for route in paths[path] ?? [] {
                            writer.object(route.method.rawValue.lowercased()) {
                                operation(route, &$0, &components)
                            }
                        }
                    }
                }
            }
            writer.object("components") { writer in
                writer.object("securitySchemes") { writer in
                    writer.object("apiKey") { writer in
                        writer.field("type", "http")
                        writer.field("scheme", "bearer")
                        writer.field(
                            "description",
                            "An API key, crmm_ and 43 characters; or a session; or a token (JWT) of an "
                                + "issuer that is believed"
                        )
                    }
                }
                writer.object("schemas") { components.write(to: &$0) }
            }
        }
        return writer.bytes
    }

    private static func operation(_ route: Route, _ writer: inout JSONWriter, _ components: inout Components)
    {
        writer.field("operationId", operationID(route))
        writer.field("summary", route.summary)
        let known = JSON.array([.object([JSONMember(name: "apiKey", value: .array([]))])])
        switch route.caller {
        case .permitted(let permission):
            writer.field("description", "Needs the permission \(permission.rawValue).")
            writer.field("security", known)
        case .known: writer.field("security", known)
        case .anyone: writer.field("security", JSON.array([]))
        }
        writer.field("parameters", parameters(route))
        if let body = route.body {
            components.add(body.shape)
            writer.object("requestBody") { writer in
                writer.field("required", true)
                writer.object("content") { content("application/json", body.shape, &$0) }
            }
        }
        writer.object("responses") { writer in
            writer.object(String(route.status.code)) { writer in
                writer.field("description", route.status.reasonPhrase)
                if case .empty = route.answer { return }
                writer.object("content") { writer in
                    switch route.answer {
                    case .json(let shape):
                        components.add(shape)
                        content("application/json", shape, &writer)
                    case .events(let shape):
                        components.add(shape)
                        content("text/event-stream", shape, &writer)
                    case .other(let type): content(type, .any, &writer)
                    case .empty: break
                    }
                }
            }
            writer.object("default") { writer in
                writer.field("description", "A refusal")
                writer.object("content") { content("application/problem+json", Problem.shape(.none), &$0) }
            }
        }
    }

    private static func content(_ type: String, _ shape: Shape, _ writer: inout JSONWriter) {
        writer.object(type) { $0.field("schema", Components.schema(shape)) }
    }

    /// `get_v1_jobs_id_runs`.
    private static func operationID(_ route: Route) -> String {
        let words = route.path.split { !$0.isLetter && !$0.isNumber }
        return ([route.method.rawValue.lowercased()] + words.map(String.init)).joined(separator: "_")
    }

    private static func parameters(_ route: Route) -> JSON {
        let inPath = route.parameterNames.map { name in
            parameter(name, in: "path", .string(format: "uuid", allowed: [], limit: .none), isRequired: true)
        }
        let inQuery = route.query.map { parameter($0.name, in: "query", $0.shape, isRequired: $0.isRequired) }
        let key = Shape.string(format: nil, allowed: [], limit: .in(Limits.idempotencyKeyBytes))
        var inHeader: [JSON] = []
        if route.takesIdempotencyKey {
            inHeader.append(parameter("Idempotency-Key", in: "header", key, isRequired: false))
        }
        if route.takesIfMatch {
            let version = Shape.string(format: nil, allowed: [], limit: .in(1...64))
            inHeader.append(parameter("If-Match", in: "header", version, isRequired: false))
        }
        return .array(inPath + inQuery + inHeader)
    }

    private static func parameter(_ name: String, in place: String, _ shape: Shape, isRequired: Bool) -> JSON
    {
        .object([
            JSONMember(name: "name", value: .string(name)), JSONMember(name: "in", value: .string(place)),
            JSONMember(name: "required", value: .bool(isRequired)),
            JSONMember(name: "schema", value: Components.schema(shape)),
        ])
    }
}

/// The objects that a document names, each once.
private struct Components {
    private var objects: [String: [Shape.Field]] = [:]

    /// Collects an object and those inside it.
    mutating func add(_ shape: Shape) {
        switch shape {
        case .object(let name, let fields):
            guard objects.updateValue(fields, forKey: Self.identifier(name)) == nil else { return }
            for field in fields { add(field.shape) }
        case .array(let element, _), .map(let element): add(element)
        case .string, .integer, .number, .boolean, .any: break
        }
    }

    func write(to writer: inout JSONWriter) {
        for (name, fields) in objects.sorted(by: { $0.key < $1.key }) {
            writer.field(name, Self.object(fields, isStrict: name.hasPrefix("New")))
        }
    }

    /// The schema where a shape is used: objects by reference.
    static func schema(_ shape: Shape) -> JSON {
        switch shape {
        case .string(let format, let allowed, let limit):
            var members = [JSONMember(name: "type", value: .string("string"))]
            if let format { members.append(JSONMember(name: "format", value: .string(format))) }
            if !allowed.isEmpty {
                members.append(JSONMember(name: "enum", value: .array(allowed.map(JSON.string))))
            }
            return .object(members + bounds(limit, "minLength", "maxLength"))
        case .integer(let limit):
            return .object(
                [JSONMember(name: "type", value: .string("integer"))] + bounds(limit, "minimum", "maximum"))
        case .number: return .object([JSONMember(name: "type", value: .string("number"))])
        case .boolean: return .object([JSONMember(name: "type", value: .string("boolean"))])
        case .array(let element, let limit):
            return .object(
                [
                    JSONMember(name: "type", value: .string("array")),
                    JSONMember(name: "items", value: schema(element)),
                ] + bounds(limit, "minItems", "maxItems"))
        case .map(let element):
            return .object([
                JSONMember(name: "type", value: .string("object")),
                JSONMember(name: "additionalProperties", value: schema(element)),
            ])
        case .object(let name, _):
            return .object([
                JSONMember(name: "$ref", value: .string("#/components/schemas/\(identifier(name))"))
            ])
        case .any: return .object([])
        }
    }

    private static func object(_ fields: [Shape.Field], isStrict: Bool) -> JSON {
        var members = [
            JSONMember(name: "type", value: .string("object")),
            JSONMember(
                name: "properties",
                value: .object(
                    fields.map { field in
                        let schema = schema(field.shape)
                        return JSONMember(
                            name: field.name, value: field.isNullable ? nullable(schema) : schema)
                    })),
        ]
        let required = fields.filter(\.isRequired).map { JSON.string($0.name) }
        if !required.isEmpty { members.append(JSONMember(name: "required", value: .array(required))) }
        if isStrict { members.append(JSONMember(name: "additionalProperties", value: .bool(false))) }
        return .object(members)
    }

    private static func nullable(_ schema: JSON) -> JSON {
        .object([
            JSONMember(
                name: "anyOf",
                value: .array([schema, .object([JSONMember(name: "type", value: .string("null"))])]))
        ])
    }

    private static func bounds(_ limit: FieldLimit, _ least: String, _ most: String) -> [JSONMember] {
        guard let range = limit.range else { return [] }
        return [
            JSONMember(name: least, value: .integer(Int64(range.lowerBound))),
            JSONMember(name: most, value: .integer(Int64(range.upperBound))),
        ]
    }

    /// A generic type's name as an identifier: `Page<Run>` becomes `PageOfRun`.
    private static func identifier(_ name: String) -> String {
        name.replacing("<", with: "Of").replacing(">", with: "")
    }
}
