import Domain
import Wire

/// The query of a URL as a JSON object, so that queries are read, refused and described as bodies are.
enum QueryText {
    /// The object of `name=value&…`; values become what the fields of that name accept.
    static func json(of text: Substring, _ fields: [Shape.Field]) throws -> JSON {
        var members: [JSONMember] = []
        // A query may have thousands of parts, so names are looked up and not searched for.
        var names: Set<String> = []
        for part in text.split(separator: "&") {
            let halves = part.split(separator: "=", maxSplits: 1, omittingEmptySubsequences: false)
            guard let name = decode(halves[0]), let value = decode(halves.count > 1 ? halves[1] : "") else {
                throw FieldError(.invalid, field: "query", "is not percent-encoded UTF-8")
            }
            guard names.insert(name).inserted else {
                throw FieldError(.invalid, field: printable(name), "stands twice in the query")
            }
            members.append(
                JSONMember(name: name, value: json(of: value, fields.first { $0.name == name }?.shape)))
        }
        return .object(members)
    }

    private static func json(of value: String, _ shape: Shape?) -> JSON {
        switch (shape, value) {
        case (.integer, _): Int64(value).map(JSON.integer) ?? .string(value)
        case (.boolean, "true"): .bool(true)
        case (.boolean, "false"): .bool(false)
        default: .string(value)
        }
    }

    /// The text of `application/x-www-form-urlencoded`; `nil` if it is not UTF-8 or an escape is broken.
    static func decode(_ text: some StringProtocol) -> String? {
        var bytes: [UInt8] = []
        var rest = Array(text.utf8)[...]
        while let byte = rest.popFirst() {
            switch byte {
            case UInt8(ascii: "+"): bytes.append(UInt8(ascii: " "))
            case UInt8(ascii: "%"):
                guard let high = rest.popFirst().flatMap(hexadecimalValue),
                    let low = rest.popFirst().flatMap(hexadecimalValue)
                else { return nil }
                bytes.append(high << 4 | low)
            default: bytes.append(byte)
            }
        }
        return String(validating: bytes, as: UTF8.self)
    }
}
