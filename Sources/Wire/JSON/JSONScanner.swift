import Domain

/// Finds the values of a JSON text, and refuses what is none, in one pass.
///
/// It holds no text: each operation is given the same one.
struct JSONScanner {
    private(set) var marks: [JSONMark] = []
    private let depthMax: Int
    private let valuesMax: Int
    private var position = 0

    init(depthMax: Int, valuesMax: Int) {
        self.depthMax = depthMax
        self.valuesMax = valuesMax
    }

    /// Scans one value that takes up all the text.
    mutating func scan(_ text: Span<UInt8>) throws(JSONSyntaxError) {
        guard text.count <= Int(UInt32.max) else { throw failure("the text is too long") }
        marks.reserveCapacity(min(text.count / 16, 1_024) + 8)
        try scanValue(text, depth: 0)
        skipSpace(text)
        guard position == text.count else { throw failure("something follows the value") }
    }

    private func failure(_ message: String) -> JSONSyntaxError {
        JSONSyntaxError(message: message, offset: position)
    }

    @inline(__always)
    private mutating func append(_ mark: JSONMark) throws(JSONSyntaxError) {
        guard marks.count < valuesMax else {
            throw failure("there are more than \(valuesMax) values and names")
        }
        marks.append(mark)
    }

    @inline(__always)
    private mutating func append(_ kind: JSONMark.Kind, from start: Int) throws(JSONSyntaxError) {
        try append(
            JSONMark(
                kind: kind, start: UInt32(truncatingIfNeeded: start),
                end: UInt32(truncatingIfNeeded: position)))
    }

    @inline(__always)
    private mutating func skipSpace(_ text: Span<UInt8>) {
        while position < text.count {
            switch text[position] {
            case 0x20, 0x09, 0x0A, 0x0D: position &+= 1
            default: return
            }
        }
    }

    @inline(__always)
    private mutating func take(_ byte: UInt8, _ text: Span<UInt8>) -> Bool {
        guard position < text.count, text[position] == byte else { return false }
        position &+= 1
        return true
    }

    private mutating func scanValue(_ text: Span<UInt8>, depth: Int) throws(JSONSyntaxError) {
        guard depth <= depthMax else { throw failure("values nest deeper than \(depthMax)") }
        skipSpace(text)
        guard position < text.count else { throw failure("a value is missing") }
        switch text[position] {
        case UInt8(ascii: "{"): try scanObject(text, depth: depth)
        case UInt8(ascii: "["): try scanArray(text, depth: depth)
        case UInt8(ascii: "\""): try scanString(text)
        case UInt8(ascii: "t"): try scanWord("true", .true, text)
        case UInt8(ascii: "f"): try scanWord("false", .false, text)
        case UInt8(ascii: "n"): try scanWord("null", .null, text)
        default: try scanNumber(text)
        }
    }

    private mutating func scanWord(
        _ word: String, _ kind: JSONMark.Kind, _ text: Span<UInt8>
    ) throws(JSONSyntaxError) {
        let start = position
        for byte in word.utf8 where !take(byte, text) {
            position = start
            throw failure("a value is not JSON")
        }
        try append(kind, from: start)
    }

    // MARK: Arrays and objects

    private mutating func scanArray(_ text: Span<UInt8>, depth: Int) throws(JSONSyntaxError) {
        position += 1
        let place = marks.count
        try append(JSONMark(kind: .array, start: 0, end: UInt32(truncatingIfNeeded: place + 1)))
        skipSpace(text)
        if take(UInt8(ascii: "]"), text) { return }
        var count: UInt32 = 0
        while true {
            try scanValue(text, depth: depth + 1)
            count += 1
            skipSpace(text)
            if take(UInt8(ascii: ","), text) { continue }
            guard take(UInt8(ascii: "]"), text) else { throw failure("an array is not closed") }
            close(place, count)
            return
        }
    }

    private mutating func scanObject(_ text: Span<UInt8>, depth: Int) throws(JSONSyntaxError) {
        position += 1
        let place = marks.count
        try append(JSONMark(kind: .object, start: 0, end: UInt32(truncatingIfNeeded: place + 1)))
        skipSpace(text)
        if take(UInt8(ascii: "}"), text) { return }
        var names = MemberNames(first: place + 1)
        while true {
            skipSpace(text)
            guard position < text.count, text[position] == UInt8(ascii: "\"") else {
                throw failure("a member's name is missing")
            }
            let name = marks.count
            try scanString(text)
            guard names.insert(name, marks, text) else { throw failure("a member stands twice") }
            skipSpace(text)
            guard take(UInt8(ascii: ":"), text) else { throw failure("a colon is missing") }
            try scanValue(text, depth: depth + 1)
            skipSpace(text)
            if take(UInt8(ascii: ","), text) { continue }
            guard take(UInt8(ascii: "}"), text) else { throw failure("an object is not closed") }
            close(place, UInt32(truncatingIfNeeded: names.count))
            return
        }
    }

    @inline(__always)
    private mutating func close(_ place: Int, _ count: UInt32) {
        marks[place].start = count
        marks[place].end = UInt32(truncatingIfNeeded: marks.count)
    }

    // MARK: Strings

    private mutating func scanString(_ text: Span<UInt8>) throws(JSONSyntaxError) {
        position += 1
        let start = position
        var isASCII = true
        var hasEscape = false
        while true {
            let run = Self.run(text, from: position)
            position = run.end
            isASCII = isASCII && run.isASCII
            guard position < text.count else { throw failure("a string is not closed") }
            let byte = text[position]
            if byte == UInt8(ascii: "\"") { break }
            guard byte == UInt8(ascii: "\\") else {
                throw failure("a control character stands in a string")
            }
            hasEscape = true
            _ = try takeEscape(text)
            guard position < text.count else { throw failure("a string is not closed") }
        }
        let kind: JSONMark.Kind = hasEscape ? .escaped : isASCII ? .plain : .unescaped
        let end = position
        position += 1
        // Escapes stand for whole characters, so the bytes between them are UTF-8 if and only if all are.
        guard isASCII || Self.isUTF8(text.extracting(start..<end)) else {
            throw failure("a string is not UTF-8")
        }
        try append(
            JSONMark(
                kind: kind, start: UInt32(truncatingIfNeeded: start), end: UInt32(truncatingIfNeeded: end)))
    }

    private static func isUTF8(_ text: Span<UInt8>) -> Bool {
        do {
            _ = try UTF8Span(validating: text)
            return true
        } catch { return false }
    }

    /// The end of the bytes that stand for themselves: at a quote, a backslash, a control character, or the
    /// end of the text. Eight bytes a step: a byte's highest bit is set in `stops` where it ends the run.
    @inline(__always)
    private static func run(_ text: Span<UInt8>, from start: Int) -> (end: Int, isASCII: Bool) {
        let (ones, highs): (UInt64, UInt64) = (0x0101_0101_0101_0101, 0x8080_8080_8080_8080)
        var position = start
        var isASCII = true
        while position <= text.count &- 8 {
            let word = word(text, at: position)
            let quotes = word ^ ones &* 0x22
            let slashes = word ^ ones &* 0x5C
            let stops =
                ((quotes &- ones) & ~quotes | (slashes &- ones) & ~slashes | (word &- ones &* 0x20) & ~word)
                & highs
            if stops != 0 {
                // Borrows make later bytes uncertain, never the first.
                let count = stops.trailingZeroBitCount / 8
                let before = count == 0 ? 0 : word & (~0 &>> UInt64(64 &- 8 &* count))
                return (position &+ count, isASCII && before & highs == 0)
            }
            isASCII = isASCII && word & highs == 0
            position &+= 8
        }
        while position < text.count {
            let byte = text[position]
            if byte == UInt8(ascii: "\"") || byte == UInt8(ascii: "\\") || byte < 0x20 { break }
            isASCII = isASCII && byte < 0x80
            position &+= 1
        }
        return (position, isASCII)
    }

    @inline(__always)
    private static func word(_ text: Span<UInt8>, at position: Int) -> UInt64 {
        let low =
            UInt32(text[position]) | UInt32(text[position &+ 1]) &<< 8 | UInt32(text[position &+ 2]) &<< 16
            | UInt32(text[position &+ 3]) &<< 24
        let high =
            UInt32(text[position &+ 4]) | UInt32(text[position &+ 5]) &<< 8
            | UInt32(text[position &+ 6]) &<< 16 | UInt32(text[position &+ 7]) &<< 24
        return UInt64(low) | UInt64(high) &<< 32
    }

    /// The character of the escape that begins here.
    private mutating func takeEscape(_ text: Span<UInt8>) throws(JSONSyntaxError) -> Unicode.Scalar {
        position += 1
        guard position < text.count else { throw failure("a string is not closed") }
        let escape = text[position]
        position += 1
        switch escape {
        case UInt8(ascii: "\""), UInt8(ascii: "\\"), UInt8(ascii: "/"): return Unicode.Scalar(escape)
        case UInt8(ascii: "b"): return "\u{08}"
        case UInt8(ascii: "f"): return "\u{0C}"
        case UInt8(ascii: "n"): return "\n"
        case UInt8(ascii: "r"): return "\r"
        case UInt8(ascii: "t"): return "\t"
        case UInt8(ascii: "u"): break
        default: throw failure("an escape is not known")
        }
        var unit = try takeCodeUnit(text)
        if (0xD800..<0xDC00).contains(unit) {
            guard take(UInt8(ascii: "\\"), text), take(UInt8(ascii: "u"), text) else {
                throw failure("a surrogate stands alone")
            }
            let low = try takeCodeUnit(text)
            guard (0xDC00..<0xE000).contains(low) else { throw failure("a surrogate stands alone") }
            unit = 0x10000 + (unit - 0xD800) << 10 + (low - 0xDC00)
        }
        guard let scalar = Unicode.Scalar(unit) else { throw failure("a surrogate stands alone") }
        return scalar
    }

    private mutating func takeCodeUnit(_ text: Span<UInt8>) throws(JSONSyntaxError) -> UInt32 {
        guard position + 4 <= text.count else { throw failure("a string is not closed") }
        var unit: UInt32 = 0
        for index in position..<position + 4 {
            guard let digit = hexadecimalValue(text[index]) else {
                throw failure("an escape is not hexadecimal")
            }
            unit = unit << 4 | UInt32(digit)
        }
        position += 4
        return unit
    }

    /// The characters of a string that was scanned, its escapes replaced by what they stand for.
    static func unescaped(_ text: Span<UInt8>, _ range: Range<Int>) -> [UInt8] {
        // No escape is shorter than what it stands for.
        [UInt8](capacity: range.count) { output in
            var scanner = JSONScanner(depthMax: 0, valuesMax: 0)
            scanner.position = range.lowerBound
            while scanner.position < range.upperBound {
                let byte = text[scanner.position]
                guard byte == UInt8(ascii: "\\") else {
                    output.append(byte)
                    scanner.position &+= 1
                    continue
                }
                scanner.unescape(text, into: &output)
            }
        }
    }

    @inline(__always)
    private mutating func unescape(_ text: Span<UInt8>, into output: inout OutputSpan<UInt8>) {
        let scalar = takeKnownEscape(text)
        if scalar.isASCII {
            output.append(UInt8(truncatingIfNeeded: scalar.value))
        } else {
            for byte in UTF8.encode(scalar)! { output.append(byte) }
        }
    }

    /// Whether a string that was scanned is written with escapes for these characters.
    static func isEscaped(_ text: Span<UInt8>, _ range: Range<Int>, for wanted: Span<UInt8>) -> Bool {
        var scanner = JSONScanner(depthMax: 0, valuesMax: 0)
        scanner.position = range.lowerBound
        var offset = 0
        while scanner.position < range.upperBound {
            guard offset < wanted.count else { return false }
            let byte = text[scanner.position]
            guard byte == UInt8(ascii: "\\") else {
                guard byte == wanted[offset] else { return false }
                scanner.position &+= 1
                offset &+= 1
                continue
            }
            for byte in UTF8.encode(scanner.takeKnownEscape(text))! {
                guard offset < wanted.count, byte == wanted[offset] else { return false }
                offset &+= 1
            }
        }
        return offset == wanted.count
    }

    private mutating func takeKnownEscape(_ text: Span<UInt8>) -> Unicode.Scalar {
        do { return try takeEscape(text) } catch {
            preconditionFailure("a string that was scanned holds no such escape: \(error)")
        }
    }

    // MARK: Numbers

    private mutating func scanNumber(_ text: Span<UInt8>) throws(JSONSyntaxError) {
        let start = position
        _ = take(UInt8(ascii: "-"), text)
        let firstDigit = position
        guard skipDigits(text) > 0 else { throw failure("a value is not JSON") }
        guard text[firstDigit] != UInt8(ascii: "0") || position == firstDigit + 1 else {
            throw failure("a number begins with zero")
        }
        var isInteger = true
        if take(UInt8(ascii: "."), text) {
            isInteger = false
            guard skipDigits(text) > 0 else { throw failure("a number ends at its point") }
        }
        if take(UInt8(ascii: "e"), text) || take(UInt8(ascii: "E"), text) {
            isInteger = false
            _ = take(UInt8(ascii: "+"), text) || take(UInt8(ascii: "-"), text)
            guard skipDigits(text) > 0 else { throw failure("a number ends at its exponent") }
        }
        guard position - start <= 64 else { throw failure("a number has more than 64 characters") }
        if isInteger, Self.integer(text, start..<position) != nil {
            try append(.integer, from: start)
            return
        }
        let bytes = (start..<position).map { text[$0] }
        guard let number = Double(String(decoding: bytes, as: UTF8.self)), number.isFinite else {
            throw failure("a number is out of range")
        }
        try append(.number, from: start)
    }

    @inline(__always)
    private mutating func skipDigits(_ text: Span<UInt8>) -> Int {
        let start = position
        while position < text.count, text[position] &- UInt8(ascii: "0") < 10 { position &+= 1 }
        return position - start
    }

    /// The value of a number without fraction and exponent; `nil` if it does not fit 64 bits.
    static func integer(_ text: Span<UInt8>, _ range: Range<Int>) -> Int64? {
        let isNegative = text[range.lowerBound] == UInt8(ascii: "-")
        var number: Int64 = 0
        for index in range.lowerBound + (isNegative ? 1 : 0)..<range.upperBound {
            let digit = Int64(text[index] &- UInt8(ascii: "0"))
            let (tenfold, overflows) = number.multipliedReportingOverflow(by: 10)
            let (sum, overflowsToo) =
                isNegative
                ? tenfold.subtractingReportingOverflow(digit) : tenfold.addingReportingOverflow(digit)
            guard !overflows, !overflowsToo else { return nil }
            number = sum
        }
        return number
    }
}
