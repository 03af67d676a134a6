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

    /// Whether the path begins with a member's name, which a dot sets apart from what stands before it.
    private let beginsWithName: Bool

    /// A refusal of a field; its path begins at the value that is read, readers put the rest before it.
    package init(_ reason: Reason, field: String, _ message: String) {
        self.init(reason, field, message, beginsWithName: !field.isEmpty)
    }

    /// A refusal of the value itself that is read.
    package init(_ reason: Reason, _ message: String) {
        self.init(reason, "", message, beginsWithName: false)
    }

    private init(_ reason: Reason, _ field: String, _ message: String, beginsWithName: Bool) {
        self.reason = reason
        self.field = field
        self.message = message
        self.beginsWithName = beginsWithName
    }

    /// The same refusal as seen from the object that has the refused value under a name.
    func under(_ name: String) -> FieldError { under(name, beginsWithName: true) }

    /// The same refusal as seen from the array that has the refused value at an index.
    func under(index: Int) -> FieldError { under("[\(index)]", beginsWithName: false) }

    /// The same refusal as seen from the object of any names that has the refused value under one of them.
    func under(key: String) -> FieldError { under(".\(printable(key))", beginsWithName: false) }

    private func under(_ prefix: String, beginsWithName isName: Bool) -> FieldError {
        FieldError(
            reason, beginsWithName ? "\(prefix).\(field)" : prefix + field, message, beginsWithName: isName)
    }

    /// Equal in what a caller sees.
    package static func == (left: FieldError, right: FieldError) -> Bool {
        left.reason == right.reason && left.field == right.field && left.message == right.message
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
        /// Whether null means something else than that it is absent.
        package var isNullable = false

        /// A field.
        package init(name: String, shape: Shape, isRequired: Bool, isNullable: Bool = false) {
            self.name = name
            self.shape = shape
            self.isRequired = isRequired
            self.isNullable = isNullable
        }
    }
}

/// A value that can be read from a field.
package protocol JSONReadable: Sendable {
    /// What a value of the text stands for, or a refusal; its path begins at the value.
    static func read(_ value: JSONValue, _ limit: FieldLimit) throws(FieldError) -> Self
    /// What JSON is accepted.
    static func shape(_ limit: FieldLimit) -> Shape
    /// A value that stands for any while a shape is recorded.
    static var placeholder: Self { get }
}

extension JSONReadable {
    /// As above, with the path of the value itself in refusals.
    package static func read(
        _ value: JSONValue, _ limit: FieldLimit, field path: @autoclosure () -> String
    ) throws(FieldError) -> Self {
        do { return try read(value, limit) } catch {
            let path = path()
            throw path.isEmpty ? error : error.under(path)
        }
    }

    /// As above, of a value that was built.
    package static func read(_ json: JSON, _ limit: FieldLimit, field path: String) throws -> Self {
        try read(JSONValue(json), limit, field: path)
    }
}

/// Reads the fields of one object; asking for a field is also what documents it.
///
/// A reader either reads (every field that was not asked for is refused at the end) or records which fields a
/// type asks for, from which its shape comes. So a body's description cannot differ from what is accepted.
///
/// Paths are put together only once something is refused, by those who called, from the inside out.
package struct FieldReader {
    /// The object; `nil` while recording.
    private let text: JSONText?
    private let first: Int
    private let count: Int
    /// The member after the one that was taken last: writers keep the order, so it is tried first.
    private var place: Int
    private var ordinal = 0
    /// Members that were taken, by ordinal: a bit each for the first 64, then a set.
    private var taken: UInt64 = 0
    private var takenBeyond: Set<Int> = []
    private var takenCount = 0
    /// Fields that were asked for and are not there, as long as something is left that could be refused.
    private var missed: [String] = []
    private(set) var recorded: [Shape.Field] = []
    private let path: String

    /// A reader of an object.
    package init(_ value: JSONValue, field path: String = "") throws(FieldError) {
        let mark = value.mark
        guard mark.kind == .object else {
            throw FieldError(.wrongType, field: path, "must be an object, not \(value.kind)")
        }
        text = value.text
        first = value.index + 1
        place = first
        count = Int(mark.start)
        self.path = path
    }

    private init(recording: Void) {
        text = nil
        (first, place, count) = (0, 0, 0)
        path = ""
    }

    static func recording() -> FieldReader { FieldReader(recording: ()) }

    /// Whether this pass only records which fields there are; rules across fields are not judged then.
    package var isRecording: Bool { text == nil }

    /// The path of a field of this object, as a refusal that a type throws by itself names it.
    package func name(of field: String) -> String { path.isEmpty ? field : "\(path).\(field)" }

    /// The value of a field that must be there.
    package mutating func field<Value: JSONReadable>(
        _ name: String, _ type: Value.Type = Value.self, _ limit: FieldLimit = .none
    ) throws(FieldError) -> Value {
        guard let text else {
            recorded.append(Shape.Field(name: name, shape: Value.shape(limit), isRequired: true))
            return Value.placeholder
        }
        guard let value = take(name, text) else {
            throw FieldError(.missing, field: self.name(of: name), "is missing")
        }
        do { return try Value.read(value, limit) } catch { throw error.under(self.name(of: name)) }
    }

    /// The value of a field that may be absent or null.
    package mutating func optional<Value: JSONReadable>(
        _ name: String, _ type: Value.Type = Value.self, _ limit: FieldLimit = .none
    ) throws(FieldError) -> Value? {
        guard let text else {
            recorded.append(Shape.Field(name: name, shape: Value.shape(limit), isRequired: false))
            return nil
        }
        guard let value = take(name, text), !value.isNull else { return nil }
        do { return try Value.read(value, limit) } catch { throw error.under(self.name(of: name)) }
    }

    /// What a field does to a value that is there: absent keeps it, null clears it (RFC 7396).
    package mutating func change<Value: JSONReadable>(
        _ name: String, _ type: Value.Type = Value.self, _ limit: FieldLimit = .none
    ) throws(FieldError) -> FieldChange<Value> {
        guard let text else {
            recorded.append(
                Shape.Field(name: name, shape: Value.shape(limit), isRequired: false, isNullable: true))
            return .keep
        }
        guard let value = take(name, text) else { return .keep }
        if value.isNull { return .clear }
        do { return .set(try Value.read(value, limit)) } catch { throw error.under(self.name(of: name)) }
    }

    /// Refuses fields that the contract names but this release does not have, whatever they hold.
    package mutating func notSupported(_ names: String...) throws(FieldError) {
        guard let text else { return }
        var index = first
        for _ in 0..<count {
            for name in names where text.isString(at: index, name) {
                throw FieldError(.notSupported, field: self.name(of: name), "is not supported yet")
            }
            index = text.next(after: index + 1)
        }
    }

    /// Refuses every field that nobody asked for.
    package func finish() throws(FieldError) {
        // Names stand once in an object, so the counts tell whether one is left.
        guard let text, takenCount < count else { return }
        var unknown: String?
        var known = missed
        var index = first
        for ordinal in 0..<count {
            let name = text.string(at: index)
            if isTaken(ordinal) { known.append(name) } else if unknown == nil { unknown = name }
            index = text.next(after: index + 1)
        }
        guard let unknown else { return }
        let names = known.sorted().joined(separator: ", ")
        throw FieldError(.unknownField, "is not a field here; known are: \(names)")
            .under(name(of: printable(unknown)))
    }

    private mutating func take(_ name: String, _ text: JSONText) -> JSONValue? {
        // The rest of the members first, then those before the one that was taken last.
        for _ in 0..<count {
            if ordinal == count { (place, ordinal) = (first, 0) }
            let (index, found) = (place, ordinal)
            place = text.next(after: index + 1)
            ordinal += 1
            guard text.isString(at: index, name) else { continue }
            markTaken(found)
            return JSONValue(text: text, index: index + 1)
        }
        if takenCount < count { missed.append(name) }
        return nil
    }

    private mutating func markTaken(_ ordinal: Int) {
        guard !isTaken(ordinal) else { return }
        if ordinal < 64 { taken |= 1 << UInt64(ordinal) } else { takenBeyond.insert(ordinal) }
        takenCount += 1
    }

    private func isTaken(_ ordinal: Int) -> Bool {
        ordinal < 64 ? taken & 1 << UInt64(ordinal) != 0 : takenBeyond.contains(ordinal)
    }
}

/// What an edit does to one value.
package enum FieldChange<Value: Sendable>: Sendable {
    /// Leaves it as it is.
    case keep
    /// Takes it away.
    case clear
    /// Puts another in its place.
    case set(Value)

    /// The value after the edit.
    package func applied(to value: Value?) -> Value? {
        switch self {
        case .keep: value
        case .clear: nil
        case .set(let new): new
        }
    }
}

extension FieldChange: Equatable where Value: Equatable {}

extension JSONWriter {
    /// Appends what an edit does to a field; nothing where it keeps it.
    package mutating func field<Value: JSONWritable>(_ name: String, _ change: FieldChange<Value>) {
        switch change {
        case .keep: break
        case .clear: field(name, JSON.null)
        case .set(let value): field(name, value)
        }
    }
}

/// An object that is edited by versions: its `ETag`.
package protocol Versioned {
    /// How often it was edited, from 1.
    var version: Int { get }
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
        try read(JSONValue(scanning: bytes), .none)
    }

    /// The object of a field.
    package static func read(_ value: JSONValue, _ limit: FieldLimit) throws(FieldError) -> Self {
        var reader = try FieldReader(value)
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
