import HTTPTypes
import Wire

/// Which fields of what a call shows its caller wants: `fields=id,name`; of a list those of its items.
struct FieldSelection {
    /// The parameter as the description has it.
    static let parameter = Shape.Field(
        name: "fields", shape: .string(format: nil, allowed: [], limit: .in(1...1_000)), isRequired: false)

    private let names: Set<String>
    private let isOfItems: Bool

    /// What a query selects of an answer of a shape; `nil` if it selects nothing.
    /// - Throws: `FieldError` that names the fields that there are, if one of those wanted is not.
    init?(_ rawQuery: Substring?, of answer: Shape) throws(FieldError) {
        guard let rawQuery, let text = Self.value(in: rawQuery) else { return nil }
        let items = Self.items(of: answer)
        let known = (items ?? answer).fields.map(\.name)
        let wanted = text.split(separator: ",", omittingEmptySubsequences: false).map(String.init)
        if let stranger = wanted.first(where: { !known.contains($0) }) {
            throw FieldError(
                .invalid, field: Self.parameter.name,
                "names \"\(printable(stranger))\"; allowed are, with commas between: "
                    + known.joined(separator: ", "))
        }
        (names, isOfItems) = (Set(wanted), items != nil)
    }

    /// An example of its text for an answer of a shape: the first two fields.
    static func example(of answer: Shape) -> String {
        (items(of: answer) ?? answer).fields.prefix(2).map(\.name).joined(separator: ",")
    }

    /// The answer with no other fields; of a list the cursor stays.
    func apply(to reply: Reply) throws -> Reply {
        guard let content = reply.content else { return reply }
        let value = try JSON.parse(content)
        var selected = Reply.bytes(
            (isOfItems ? items(of: value) : object(value)).json, "application/json", status: reply.status)
        selected.headers[.eTag] = reply.headers[.eTag]
        return selected
    }

    private func items(of page: JSON) -> JSON {
        guard case .object(let members) = page else { return page }
        return .object(
            members.map { member in
                guard member.name == "items", case .array(let items) = member.value else { return member }
                return JSONMember(name: member.name, value: .array(items.map(object)))
            })
    }

    private func object(_ value: JSON) -> JSON {
        guard case .object(let members) = value else { return value }
        return .object(members.filter { names.contains($0.name) })
    }

    /// The text after `fields=`, decoded; text that cannot be decoded is refused with the rest of the query.
    private static func value(in query: Substring) -> String? {
        let prefix = "\(parameter.name)="
        return query.split(separator: "&").first { $0.hasPrefix(prefix) }
            .flatMap { QueryText.decode($0.dropFirst(prefix.count)) }
    }

    /// What a page is of; `nil` for what is none.
    private static func items(of answer: Shape) -> Shape? {
        guard answer.fields.count == 2, let last = answer.fields.last, last.name == "next",
            let items = answer.fields.first, items.name == "items", case .array(let item, _) = items.shape
        else { return nil }
        return item
    }
}
