import Wire

/// The objects that a document names, each once.
struct Components {
    private var objects: [String: [Shape.Field]] = [:]
    /// The objects that stand in bodies, which take no other fields than theirs.
    private var strict: Set<String> = []

    /// Collects an object and those inside it.
    mutating func add(_ shape: Shape, isBody: Bool = false) {
        switch shape {
        case .object(let name, let fields):
            let name = Self.identifier(name)
            let isStricter = isBody && strict.insert(name).inserted
            guard objects.updateValue(fields, forKey: name) == nil || isStricter else { return }
            for field in fields { add(field.shape, isBody: isBody) }
        case .array(let element, _), .map(let element): add(element, isBody: isBody)
        case .string, .integer, .number, .boolean, .any: break
        }
    }

    /// Writes the schemas, by name.
    func write(to writer: inout JSONWriter) {
        for (name, fields) in objects.sorted(by: { $0.key < $1.key }) {
            writer.field(name, Self.object(fields, isStrict: strict.contains(name)))
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
