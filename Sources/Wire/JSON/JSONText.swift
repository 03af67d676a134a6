/// A text of JSON that was found well-formed, and where each of its values stands.
///
/// Values are decoded only when somebody asks for them: the text is kept as it came, beside one flat array of
/// marks in the order of the text.
final class JSONText: Sendable {
    let bytes: [UInt8]
    let marks: [JSONMark]

    /// Scans a text; refuses what `JSON.parse` refuses.
    init(
        scanning bytes: [UInt8], depthMax: Int = JSON.depthMax, valuesMax: Int = Limits.bodyValuesMax
    ) throws(JSONSyntaxError) {
        var scanner = JSONScanner(depthMax: depthMax, valuesMax: valuesMax)
        try scanner.scan(bytes.span)
        self.bytes = bytes
        marks = scanner.marks
    }

    /// The outermost value.
    var root: JSONValue { JSONValue(text: self, index: 0) }

    /// The mark after a value and all that it holds.
    @inline(__always)
    func next(after index: Int) -> Int {
        let mark = marks[index]
        return mark.isContainer ? Int(mark.end) : index + 1
    }

    /// The characters of a string's mark.
    func string(at index: Int) -> String {
        let mark = marks[index]
        guard mark.kind == .escaped else {
            return String(decoding: bytes[Int(mark.start)..<Int(mark.end)], as: UTF8.self)
        }
        let bytes = bytes
        return String(
            decoding: JSONScanner.unescaped(bytes.span, Int(mark.start)..<Int(mark.end)), as: UTF8.self)
    }

    /// Whether a string's mark is that name, byte for byte. It allocates nothing, however often it is asked.
    @inline(__always)
    func isString(at index: Int, _ name: String) -> Bool {
        let mark = marks[index]
        let (start, end) = (Int(mark.start), Int(mark.end))
        let wanted = name.utf8.span
        let bytes = bytes
        let text = bytes.span
        guard mark.kind != .escaped else { return JSONScanner.isEscaped(text, start..<end, for: wanted) }
        guard wanted.count == end &- start else { return false }
        for offset in 0..<wanted.count where text[start &+ offset] != wanted[offset] { return false }
        return true
    }
}

/// Where one value or name of a text stands.
struct JSONMark: Sendable {
    /// What stands there.
    enum Kind: UInt8 {
        case null
        case `false`
        case `true`
        /// A number without fraction and exponent that fits 64 bits.
        case integer
        case number
        /// A string of ASCII without escapes: its bytes are its characters and may be compared as such.
        case plain
        /// A string without escapes.
        case unescaped
        case escaped
        case array
        case object
    }

    let kind: Kind
    /// Of strings and numbers the first byte; of arrays and objects the count of elements or members.
    var start: UInt32
    /// Of strings and numbers the byte after the last; of arrays and objects the mark after the last element.
    var end: UInt32

    var isContainer: Bool { kind.rawValue >= Kind.array.rawValue }
}

/// A value of a scanned JSON text.
package struct JSONValue: Sendable {
    let text: JSONText
    let index: Int

    @inline(__always)
    init(text: JSONText, index: Int) {
        self.text = text
        self.index = index
    }

    /// The outermost value of a text; refuses what `JSON.parse` refuses.
    package init(
        scanning bytes: [UInt8], depthMax: Int = JSON.depthMax, valuesMax: Int = Limits.bodyValuesMax
    ) throws(JSONSyntaxError) {
        self = try JSONText(scanning: bytes, depthMax: depthMax, valuesMax: valuesMax).root
    }

    /// The text of a value that was built; refuses members that stand twice.
    package init(_ json: JSON) throws(JSONSyntaxError) {
        try self.init(scanning: json.json, depthMax: .max, valuesMax: .max)
    }

    /// A null that stands alone.
    static let null: JSONValue = {
        do { return try JSONValue(scanning: Array("null".utf8)) } catch { preconditionFailure("\(error)") }
    }()

    @inline(__always)
    var mark: JSONMark { text.marks[index] }

    var isNull: Bool { mark.kind == .null }

    /// The characters of a string; `nil` for other values.
    package var string: String? {
        switch mark.kind {
        case .plain, .unescaped, .escaped: text.string(at: index)
        default: nil
        }
    }

    /// What a reading of a string's bytes yields; `nil` for other values.
    @inline(__always)
    func string<Value>(_ read: (Span<UInt8>) -> Value?) -> Value? {
        let mark = mark
        switch mark.kind {
        case .plain, .unescaped:
            let bytes = text.bytes
            return read(bytes.span.extracting(Int(mark.start)..<Int(mark.end)))
        case .escaped:
            let string = text.string(at: index)
            return read(string.utf8.span)
        default: return nil
        }
    }

    /// An integer; `nil` for other values.
    var integer: Int64? {
        let mark = mark
        guard mark.kind == .integer else { return nil }
        let bytes = text.bytes
        return JSONScanner.integer(bytes.span, Int(mark.start)..<Int(mark.end))
    }

    /// A number of either kind; `nil` for other values.
    var number: Double? {
        let mark = mark
        switch mark.kind {
        case .integer: return integer.map(Double.init)
        case .number:
            return Double(String(decoding: text.bytes[Int(mark.start)..<Int(mark.end)], as: UTF8.self))
        default: return nil
        }
    }

    /// The elements of an array; `nil` for other values.
    var elements: JSONChildren? { mark.kind == .array ? JSONChildren(of: self) : nil }

    /// The names of an object's members, the value of each after it; `nil` for other values.
    var names: JSONChildren? { mark.kind == .object ? JSONChildren(of: self) : nil }

    /// The value after a member's name.
    var afterName: JSONValue { JSONValue(text: text, index: index + 1) }

    /// The word for the kind of value, as error messages name it.
    package var kind: String {
        switch mark.kind {
        case .null: "null"
        case .false, .true: "a boolean"
        case .integer: "an integer"
        case .number: "a number"
        case .plain, .unescaped, .escaped: "a string"
        case .array: "an array"
        case .object: "an object"
        }
    }
}

extension JSONValue: Equatable {
    /// Equal values, however they are written.
    package static func == (left: JSONValue, right: JSONValue) -> Bool { JSON(left) == JSON(right) }
}

extension JSONValue: JSONWritable {
    /// The value itself, compact.
    package func write(to writer: inout JSONWriter) {
        switch mark.kind {
        case .null: writer.append(raw: "null".utf8)
        case .false: writer.append(raw: "false".utf8)
        case .true: writer.append(raw: "true".utf8)
        case .integer: writer.append(integer: integer ?? 0)
        case .number: (number ?? 0).write(to: &writer)
        case .plain: writer.append(quoted: text.bytes[Int(mark.start)..<Int(mark.end)])
        case .unescaped, .escaped: writer.append(string: text.string(at: index))
        case .array:
            writer.array(JSONChildren(of: self)) { $0.write(to: &$1) }
        case .object:
            writer.object { writer in
                for name in JSONChildren(of: self) { writer.member(name, name.afterName) }
            }
        }
    }
}

/// What an array or object holds: elements, or names.
struct JSONChildren: Sequence, IteratorProtocol {
    private let text: JSONText
    private let isObject: Bool
    private var index: Int
    private var left: Int

    /// How many there are.
    var count: Int { left }

    init(of value: JSONValue) {
        text = value.text
        isObject = value.mark.kind == .object
        left = Int(value.mark.start)
        index = value.index + 1
    }

    @inline(__always)
    mutating func next() -> JSONValue? {
        guard left > 0 else { return nil }
        left -= 1
        let value = JSONValue(text: text, index: index)
        index = text.next(after: isObject ? index + 1 : index)
        return value
    }
}
