/// The names of one object that is being scanned: finds those that stand twice.
struct MemberNames {
    private(set) var count = 0
    private let first: Int
    /// A bit for each plain name so far; a name whose bit is not set is new.
    private var filter: UInt64 = 0
    /// Whether all names so far are plain. Others are compared as text, since different bytes may be equal.
    private var arePlain = true
    /// Few names are compared one by one; a set costs more than it saves until there are many.
    private var set: Set<String> = []

    init(first: Int) { self.first = first }

    /// Takes in the name at a mark, unless it is there already.
    @inline(__always)
    mutating func insert(_ name: Int, _ marks: [JSONMark], _ text: Span<UInt8>) -> Bool {
        let mark = marks[name]
        let (start, end) = (Int(mark.start), Int(mark.end))
        var bit: UInt64 = 1
        if mark.kind != .plain {
            arePlain = false
        } else if end > start {
            let mix = UInt64(text[start]) &* 5 &+ UInt64(text[end &- 1]) &* 3 &+ UInt64(end &- start)
            bit = 1 &<< (mix & 63)
        }
        guard count < 16, arePlain, filter & bit == 0 else { return insertSlowly(name, marks, text) }
        filter |= bit
        count += 1
        return true
    }

    private mutating func insertSlowly(_ name: Int, _ marks: [JSONMark], _ text: Span<UInt8>) -> Bool {
        if count == 16 { eachName(marks) { set.insert(Self.string($0, text)) } }
        if count >= 16 {
            guard set.insert(Self.string(marks[name], text)).inserted else { return false }
        } else {
            var isNew = true
            eachName(marks) { if Self.areEqual($0, marks[name], text) { isNew = false } }
            guard isNew else { return false }
        }
        count += 1
        return true
    }

    /// Calls with each name so far, while they are few.
    @inline(__always)
    private func eachName(_ marks: [JSONMark], _ body: (JSONMark) -> Void) {
        var index = first
        for _ in 0..<count {
            body(marks[index])
            let value = marks[index + 1]
            index = value.isContainer ? Int(value.end) : index + 2
        }
    }

    @inline(__always)
    private static func areEqual(_ left: JSONMark, _ right: JSONMark, _ text: Span<UInt8>) -> Bool {
        guard left.kind == .plain, right.kind == .plain else {
            return string(left, text) == string(right, text)
        }
        guard left.end &- left.start == right.end &- right.start else { return false }
        let (start, other) = (Int(left.start), Int(right.start))
        for offset in 0..<Int(left.end &- left.start) where text[start &+ offset] != text[other &+ offset] {
            return false
        }
        return true
    }

    private static func string(_ mark: JSONMark, _ text: Span<UInt8>) -> String {
        String(decoding: JSONScanner.unescaped(text, Int(mark.start)..<Int(mark.end)), as: UTF8.self)
    }
}
