package import Domain

extension String: JSONReadable {
    /// A string within its limit in bytes of UTF-8, without NUL.
    package static func read(_ value: JSONValue, _ limit: FieldLimit) throws(FieldError) -> String {
        guard let text = value.string else {
            throw FieldError(.wrongType, "must be a string, not \(value.kind)")
        }
        if let range = limit.range, !range.contains(text.utf8.count) {
            throw FieldError(
                .invalid,
                text.isEmpty
                    ? "must not be empty"
                    : "has \(text.utf8.count) bytes; allowed are \(range.lowerBound) to \(range.upperBound)")
        }
        // A control character can only have come as an escape.
        guard value.mark.kind != .escaped || !hasNUL(text.utf8.span) else {
            throw FieldError(.invalid, "must not contain a NUL character")
        }
        return text
    }

    private static func hasNUL(_ text: Span<UInt8>) -> Bool {
        for index in text.indices where text[index] == 0 { return true }
        return false
    }

    /// A string.
    package static func shape(_ limit: FieldLimit) -> Shape {
        .string(format: nil, allowed: [], limit: limit)
    }

    /// Stands for any string.
    package static var placeholder: String { "" }
}

extension Int: JSONReadable {
    /// An integer within its limit.
    package static func read(_ value: JSONValue, _ limit: FieldLimit) throws(FieldError) -> Int {
        guard let number = value.integer else {
            throw FieldError(.wrongType, "must be an integer, not \(value.kind)")
        }
        if let range = limit.range, !range.contains(Int(number)) {
            throw FieldError(
                .invalid, "is \(number); allowed are \(range.lowerBound) to \(range.upperBound)"
            )
        }
        return Int(number)
    }

    /// An integer.
    package static func shape(_ limit: FieldLimit) -> Shape { .integer(limit: limit) }

    /// Stands for any integer.
    package static var placeholder: Int { 0 }
}

extension Double: JSONReadable {
    /// A number.
    package static func read(_ value: JSONValue, _ limit: FieldLimit) throws(FieldError) -> Double {
        guard let number = value.number else {
            throw FieldError(.wrongType, "must be a number, not \(value.kind)")
        }
        return number
    }

    /// A number.
    package static func shape(_ limit: FieldLimit) -> Shape { .number }

    /// Stands for any number.
    package static var placeholder: Double { 0 }
}

extension Bool: JSONReadable {
    /// A boolean.
    package static func read(_ value: JSONValue, _ limit: FieldLimit) throws(FieldError) -> Bool {
        switch value.mark.kind {
        case .true: return true
        case .false: return false
        default: throw FieldError(.wrongType, "must be a boolean, not \(value.kind)")
        }
    }

    /// A boolean.
    package static func shape(_ limit: FieldLimit) -> Shape { .boolean }

    /// Stands for any boolean.
    package static var placeholder: Bool { false }
}

extension Instant: JSONReadable {
    /// RFC 3339 text.
    package static func read(_ value: JSONValue, _ limit: FieldLimit) throws(FieldError) -> Instant {
        if let instant = value.string({ $0.count <= 40 ? Instant(text: $0) : nil }) { return instant }
        _ = try String.read(value, .in(1...40))
        throw FieldError(.invalid, "must be a time of RFC 3339, such as 2026-03-01T12:00:00Z")
    }

    /// A time.
    package static func shape(_ limit: FieldLimit) -> Shape {
        .string(format: "date-time", allowed: [], limit: .none)
    }

    /// Stands for any time.
    package static var placeholder: Instant { Instant(microseconds: 0) }
}

extension ID: JSONReadable {
    /// Canonical UUID text.
    package static func read(_ value: JSONValue, _ limit: FieldLimit) throws(FieldError) -> ID {
        guard let id = value.string({ ID(text: $0) }) else {
            throw FieldError(.invalid, "must be an id, a UUID in its canonical form")
        }
        return id
    }

    /// A UUID.
    package static func shape(_ limit: FieldLimit) -> Shape {
        .string(format: "uuid", allowed: [], limit: .none)
    }

    /// Stands for any id.
    package static var placeholder: ID { ID(.zero) }
}

extension Array: JSONReadable where Element: JSONReadable {
    /// An array whose count lies within its limit.
    package static func read(_ value: JSONValue, _ limit: FieldLimit) throws(FieldError) -> [Element] {
        guard let elements = value.elements else {
            throw FieldError(.wrongType, "must be an array, not \(value.kind)")
        }
        if let range = limit.range, !range.contains(elements.count) {
            throw FieldError(
                .invalid,
                elements.count == 0
                    ? "must not be empty"
                    : "has \(elements.count) elements; allowed are \(range.lowerBound) to \(range.upperBound)"
            )
        }
        var values: [Element] = []
        values.reserveCapacity(elements.count)
        let ofElements = limit.ofElements
        for element in elements {
            do { values.append(try Element.read(element, ofElements)) } catch {
                throw error.under(index: values.count)
            }
        }
        return values
    }

    /// An array.
    package static func shape(_ limit: FieldLimit) -> Shape {
        .array(Element.shape(limit.ofElements), limit: limit)
    }

    /// Stands for any array.
    package static var placeholder: [Element] { [] }
}

extension Dictionary: JSONReadable where Key == String, Value: JSONReadable {
    /// An object of any names; its limit is the count, that of its elements each value's.
    package static func read(_ value: JSONValue, _ limit: FieldLimit) throws(FieldError) -> [String: Value] {
        guard let names = value.names else {
            throw FieldError(.wrongType, "must be an object, not \(value.kind)")
        }
        if let range = limit.range, !range.contains(names.count) {
            throw FieldError(
                .invalid,
                "has \(names.count) members; allowed are \(range.lowerBound) to \(range.upperBound)")
        }
        var values: [String: Value] = [:]
        for place in names {
            let name = place.text.string(at: place.index)
            do { values[name] = try Value.read(place.afterName, limit.ofElements) } catch {
                throw error.under(key: name)
            }
        }
        return values
    }

    /// An object of any names.
    package static func shape(_ limit: FieldLimit) -> Shape { .map(Value.shape(limit.ofElements)) }

    /// Stands for any object.
    package static var placeholder: [String: Value] { [:] }
}

extension JSON: JSONReadable {
    /// Any value.
    package static func read(_ value: JSONValue, _ limit: FieldLimit) throws(FieldError) -> JSON {
        JSON(value)
    }

    /// Anything.
    package static func shape(_ limit: FieldLimit) -> Shape { .any }

    /// Stands for any value.
    package static var placeholder: JSON { .null }
}

extension JSONValue: JSONReadable {
    /// Any value, to be judged later.
    package static func read(_ value: JSONValue, _ limit: FieldLimit) throws(FieldError) -> JSONValue {
        value
    }

    /// Anything.
    package static func shape(_ limit: FieldLimit) -> Shape { .any }

    /// Stands for any value.
    package static var placeholder: JSONValue { null }
}

/// A closed set of words on the wire.
package protocol WireWord: JSONReadable, JSONWritable, CaseIterable, Equatable {
    /// The word of this value.
    var word: String { get }
    /// What another word of the contract that is not built yet gets.
    static var notSupportedYet: Set<String> { get }
}

extension WireWord {
    /// None by default.
    package static var notSupportedYet: Set<String> { [] }

    /// The value of a word.
    package static func read(_ value: JSONValue, _ limit: FieldLimit) throws(FieldError) -> Self {
        let text = try String.read(value, .none)
        if let value = allCases.first(where: { $0.word == text }) { return value }
        if notSupportedYet.contains(text) {
            throw FieldError(.notSupported, "\(text) is not supported yet")
        }
        let allowed = allCases.map(\.word).joined(separator: ", ")
        throw FieldError(.invalid, "is \"\(printable(text))\"; allowed are: \(allowed)")
    }

    /// One of the words.
    package static func shape(_ limit: FieldLimit) -> Shape {
        .string(format: nil, allowed: allCases.map(\.word), limit: .none)
    }

    /// The first of the words.
    package static var placeholder: Self {
        guard let first = allCases.first else { preconditionFailure("\(Self.self) has no words") }
        return first
    }

    /// The word as a string.
    package func write(to writer: inout JSONWriter) { writer.append(string: word) }
}

extension RunState: WireWord {
    /// Its name, spelt out since frames are read and written often.
    package var word: String {
        switch self {
        case .scheduled: "scheduled"
        case .queued: "queued"
        case .waiting: "waiting"
        case .dispatched: "dispatched"
        case .running: "running"
        case .succeeded: "succeeded"
        case .failed: "failed"
        case .timedOut: "timedOut"
        case .cancelled: "cancelled"
        case .expired: "expired"
        case .unknown: "unknown"
        }
    }
}

extension Outcome: WireWord {
    /// Its name, spelt out since frames are read and written often.
    package var word: String {
        switch self {
        case .succeeded: "succeeded"
        case .failed: "failed"
        case .timedOut: "timedOut"
        case .cancelled: "cancelled"
        case .expired: "expired"
        case .unknown: "unknown"
        }
    }
}

extension JobState: WireWord {
    /// Its name, spelt out since frames are read and written often.
    package var word: String {
        switch self {
        case .accepted: "accepted"
        case .active: "active"
        case .paused: "paused"
        case .completed: "completed"
        case .cancelled: "cancelled"
        }
    }
}

extension Priority: WireWord {
    /// Its name.
    package var word: String { name }
}

extension JobKind: WireWord {
    /// Its raw value.
    package var word: String { rawValue }
}

extension Interpreter: WireWord {
    /// Its raw value.
    package var word: String { rawValue }
}
