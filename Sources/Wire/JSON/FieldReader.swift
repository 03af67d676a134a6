/// Why a field was refused: it names the field, what it held, and what is allowed.
package struct FieldError: Error, Equatable, CustomStringConvertible {
    /// What kind of refusal this is.
    package enum Reason: String, Sendable {
        /// The field must be there.
        case missing
        /// The field holds another kind of value.
        case wrongType
        /// The value is outside what is allowed.
        case invalid
        /// No such field.
        case unknownField
        /// Part of the contract, but not built yet.
        case notSupported
    }

    /// What kind of refusal this is.
    package let reason: Reason
    /// Path of the field from the root: `jobs[3].script.body`; empty for the root itself.
    package let field: String
    /// One sentence for the caller.
    package let message: String

    /// A refusal of a field.
    package init(_ reason: Reason, field: String, _ message: String) {
        self.reason = reason
        self.field = field
        self.message = message
    }

    /// The message after the field's name.
    package var description: String { field.isEmpty ? message : "\(field): \(message)" }
}

/// What a value may be: of integers the value, of strings the bytes of UTF-8, of arrays the count.
package struct FieldLimit: Sendable, Equatable {
    /// The allowed values or sizes.
    package var range: ClosedRange<Int>?
    /// The allowed sizes of an array's elements.
    package var elements: ClosedRange<Int>?

    /// No limit of its own.
    package static let none = FieldLimit()

    /// The value, size or count lies in a range.
    package static func `in`(_ range: ClosedRange<Int>, elements: ClosedRange<Int>? = nil) -> FieldLimit {
        FieldLimit(range: range, elements: elements)
    }

    var ofElements: FieldLimit { FieldLimit(range: elements) }
}

/// What JSON a type accepts: the source of OpenAPI's schemas.
package indirect enum Shape: Sendable, Equatable {
    case string(format: String?, allowed: [String], limit: FieldLimit)
    case integer(limit: FieldLimit)
    case number
    case boolean
    case array(Shape, limit: FieldLimit)
    case map(Shape)
    case object(name: String, fields: [Field])
    case any

    /// One field of an object.
    package struct Field: Sendable, Equatable {
        /// The field's name.
        package let name: String
        /// What it accepts.
        package let shape: Shape
        /// Whether it must be there.
        package let isRequired: Bool
    }
}

/// A value that can be read from a field.
package protocol JSONReadable: Sendable {
    /// The value of a field, or a refusal that names the field.
    static func read(_ json: JSON, _ limit: FieldLimit, field: String) throws(FieldError) -> Self
    /// What JSON is accepted.
    static func shape(_ limit: FieldLimit) -> Shape
    /// A value that stands for any while a shape is recorded.
    static var placeholder: Self { get }
}

/// Reads the fields of one object; asking for a field is also what documents it.
///
/// A reader either reads (every field that was not asked for is refused at the end) or records which fields a
/// type asks for, from which its shape comes. So a body's description cannot differ from what is accepted.
package struct FieldReader {
    private enum Mode {
        case reading(members: [JSONMember])
        case recording
    }

    private var mode: Mode
    private var asked: [String] = []
    private var taken = 0
    private(set) var recorded: [Shape.Field] = []
    private let path: String

    /// A reader of a parsed object.
    package init(_ json: JSON, field path: String = "") throws(FieldError) {
        guard case .object(let members) = json else {
            throw FieldError(.wrongType, field: path, "must be an object, not \(json.kind)")
        }
        mode = .reading(members: members)
        self.path = path
    }

    private init(recording: Void) {
        mode = .recording
        path = ""
    }

    static func recording() -> FieldReader { FieldReader(recording: ()) }

    /// Whether this pass only records which fields there are; rules across fields are not judged then.
    package var isRecording: Bool {
        if case .recording = mode { true } else { false }
    }

    /// The full path of a field of this object.
    package func name(of field: String) -> String { path.isEmpty ? field : "\(path).\(field)" }

    /// The value of a field that must be there.
    package mutating func field<Value: JSONReadable>(
        _ name: String, _ type: Value.Type = Value.self, _ limit: FieldLimit = .none
    ) throws(FieldError) -> Value {
        guard case .reading = mode else {
            recorded.append(Shape.Field(name: name, shape: Value.shape(limit), isRequired: true))
            return Value.placeholder
        }
        guard let json = take(name) else {
            throw FieldError(.missing, field: self.name(of: name), "is missing")
        }
        return try Value.read(json, limit, field: self.name(of: name))
    }

    /// The value of a field that may be absent or null.
    package mutating func optional<Value: JSONReadable>(
        _ name: String, _ type: Value.Type = Value.self, _ limit: FieldLimit = .none
    ) throws(FieldError) -> Value? {
        guard case .reading = mode else {
            recorded.append(Shape.Field(name: name, shape: Value.shape(limit), isRequired: false))
            return nil
        }
        guard let json = take(name), json != .null else { return nil }
        return try Value.read(json, limit, field: self.name(of: name))
    }

    /// Refuses fields that the contract names but this release does not have, whatever they hold.
    package mutating func notSupported(_ names: String...) throws(FieldError) {
        guard case .reading(let members) = mode else { return }
        for member in members where names.contains(member.name) {
            throw FieldError(.notSupported, field: name(of: member.name), "is not supported yet")
        }
    }

    /// Refuses every field that nobody asked for.
    package func finish() throws(FieldError) {
        // Names stand once in an object and are asked for once, so the counts tell whether one is left.
        guard case .reading(let members) = mode, taken < members.count else { return }
        for member in members where !asked.contains(member.name) {
            let known = asked.sorted().joined(separator: ", ")
            throw FieldError(
                .unknownField, field: name(of: printable(member.name)),
                "is not a field here; known are: \(known)")
        }
    }

    private mutating func take(_ name: String) -> JSON? {
        asked.append(name)
        guard case .reading(let members) = mode, let member = members.first(where: { $0.name == name }) else {
            return nil
        }
        taken += 1
        return member.value
    }
}

/// An object of the contract: its `init` asks a reader for each field, its `fields` writes each.
package protocol WireObject: JSONReadable, JSONWritable {
    /// Reads the fields; rules across fields are judged only when the reader is not recording.
    init(from reader: inout FieldReader) throws(FieldError)
    /// Appends each field to an open object.
    func fields(to writer: inout JSONWriter)
}

extension WireObject {
    /// The object of JSON text.
    package static func decode(_ bytes: [UInt8]) throws -> Self {
        try read(JSON.parse(bytes), .none, field: "")
    }

    /// The object of a field.
    package static func read(_ json: JSON, _ limit: FieldLimit, field: String) throws(FieldError) -> Self {
        var reader = try FieldReader(json, field: field)
        let value = try Self(from: &reader)
        try reader.finish()
        return value
    }

    /// The fields that `init(from:)` asks for.
    package static func shape(_ limit: FieldLimit) -> Shape {
        var reader = FieldReader.recording()
        // Recording reads placeholders only and judges no rule, so there is nothing that could be refused.
        _ = try? Self(from: &reader)
        return .object(name: String(describing: Self.self), fields: reader.recorded)
    }

    /// An object of placeholders.
    package static var placeholder: Self {
        var reader = FieldReader.recording()
        do { return try Self(from: &reader) } catch {
            preconditionFailure("\(Self.self) judges while recording: \(error)")
        }
    }

    /// A JSON object.
    package func write(to writer: inout JSONWriter) { writer.object { fields(to: &$0) } }
}

/// Text with everything outside printable ASCII replaced, cut at 64 characters: safe to show back to a
/// caller.
package func printable(_ text: String) -> String {
    String(text.unicodeScalars.prefix(64).map { (0x20..<0x7F).contains($0.value) ? Character($0) : "?" })
}
