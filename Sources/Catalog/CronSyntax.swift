/// Judges five-field cron expressions: minute, hour, day of month, month, day of week (0 and 7 are Sunday).
///
/// A field is `*` or a list of numbers, names (months and weekdays), ranges and steps, such as `*/15` or
/// `1-5,9`.
enum CronSyntax {
    private struct Field {
        var name: String
        var range: ClosedRange<Int>
        var names: [String] = []
    }

    private static let fields = [
        Field(name: "minute", range: 0...59),
        Field(name: "hour", range: 0...23),
        Field(name: "day of month", range: 1...31),
        Field(
            name: "month", range: 1...12,
            names: ["", "jan", "feb", "mar", "apr", "may", "jun", "jul", "aug", "sep", "oct", "nov", "dec"]),
        Field(name: "day of week", range: 0...7, names: ["sun", "mon", "tue", "wed", "thu", "fri", "sat"]),
    ]
    private static let daysMax = [0, 31, 29, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31]

    /// What is wrong with the expression; nil when it is sound and some day fits it.
    static func problem(in expression: String) -> String? {
        let parts = expression.split(whereSeparator: { $0 == " " || $0 == "\t" })
        guard parts.count == fields.count else {
            let names = fields.map(\.name).joined(separator: ", ")
            return "'\(expression)' has \(parts.count) fields; allowed: five, which are \(names)"
        }
        var sets: [Set<Int>] = []
        for (field, part) in zip(fields, parts) {
            guard let values = values(of: part, field) else {
                let limits = "\(field.range.lowerBound) to \(field.range.upperBound)"
                let allowed = "*, numbers from \(limits), lists, ranges, steps"
                return "'\(part)' is not a \(field.name); allowed: \(allowed)"
            }
            sets.append(values)
        }
        // With a restricted day of week either of the two days fits.
        let isAnyDay = !sets[3].allSatisfy { month in sets[2].allSatisfy { $0 > daysMax[month] } }
        return isAnyDay || parts[4] != "*" ? nil : "'\(expression)' fits no day of any year"
    }

    private static func values(of part: Substring, _ field: Field) -> Set<Int>? {
        var result: Set<Int> = []
        for item in part.split(separator: ",", omittingEmptySubsequences: false) {
            let pieces = item.split(separator: "/", omittingEmptySubsequences: false)
            guard pieces.count <= 2, let range = range(of: pieces[0], field) else { return nil }
            guard pieces.count == 2 else {
                result.formUnion(range)
                continue
            }
            guard let step = number(pieces[1]), step >= 1, step <= field.range.upperBound,
                pieces[0] == "*" || pieces[0].contains("-")
            else { return nil }
            result.formUnion(stride(from: range.lowerBound, through: range.upperBound, by: step))
        }
        return result
    }

    private static func range(of text: Substring, _ field: Field) -> ClosedRange<Int>? {
        if text == "*" { return field.range }
        let ends = text.split(separator: "-", omittingEmptySubsequences: false).map { value(of: $0, field) }
        guard ends.count <= 2, let first = ends[0], let last = ends[ends.count - 1], first <= last else {
            return nil
        }
        return first...last
    }

    private static func value(of text: Substring, _ field: Field) -> Int? {
        if !text.isEmpty, let index = field.names.firstIndex(of: text.lowercased()) { return index }
        return number(text).flatMap { field.range.contains($0) ? $0 : nil }
    }

    private static func number(_ text: Substring) -> Int? {
        text.count <= 2 && text.allSatisfy { ("0"..."9").contains($0) } ? Int(text) : nil
    }
}
