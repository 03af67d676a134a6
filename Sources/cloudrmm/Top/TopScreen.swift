import Domain
import Wire

/// The live view of the queues as a pure machine: keys, answers and sizes in, lines and wishes out.
struct TopScreen {
    /// What the shell is to do after a key.
    enum Action: Equatable {
        case none
        case quit
        case pause(OrganizationID)
        case resume(OrganizationID)
    }

    /// By what rows are ordered, the first before the others.
    enum Order: CaseIterable {
        case depth, oldest, running, rate, share, name

        var title: String {
            switch self {
            case .depth: "depth"
            case .oldest: "oldest"
            case .running: "running"
            case .rate: "rate"
            case .share: "share"
            case .name: "name"
            }
        }
    }

    /// A line with how it is shown.
    struct Line: Equatable {
        enum Style { case plain, title, selected, warning }

        var text: String
        var style = Style.plain
    }

    private enum Input: Equatable {
        case keys
        case filter
        case confirm(OrganizationID, pause: Bool)
    }

    private var data = TopData()
    private var answered: Instant?
    private var trouble: String?
    private var message: String?
    private var order = Order.depth
    private var filter = ""
    private var selected: OrganizationID?
    private var input = Input.keys
    private var first = 0
    /// Lines and columns of the terminal.
    var size = (rows: 24, columns: 80)

    // MARK: Events

    /// The API has answered.
    mutating func answered(_ data: TopData, at now: Instant) {
        (self.data, answered, trouble) = (data, now, nil)
        if !visible.contains(where: { $0.organization == selected }) {
            selected = visible.first?.organization
        }
    }

    /// The API has not answered, or has refused.
    mutating func failed(_ reason: String) { trouble = Terminal.harmless(reason) }

    /// Says what became of a pause or a resume.
    mutating func say(_ text: String) { message = Terminal.harmless(text) }

    /// A person has pressed keys.
    mutating func press(_ bytes: [UInt8]) -> Action {
        var rest = bytes[...]
        while let byte = rest.popFirst() {
            // Ctrl-C and Ctrl-D end it, whatever is being asked.
            if byte == 0x03 || byte == 0x04 { return .quit }
            if byte == 0x1B, rest.first == UInt8(ascii: "["), rest.count >= 2 {
                let key = rest[rest.startIndex + 1]
                rest = rest.dropFirst(2)
                if key == UInt8(ascii: "A") { move(-1) } else if key == UInt8(ascii: "B") { move(1) }
                continue
            }
            let action = press(byte)
            if action != .none { return action }
        }
        return .none
    }

    private mutating func press(_ byte: UInt8) -> Action {
        switch input {
        case .keys: return pressKey(byte)
        case .filter:
            switch byte {
            case 0x0D, 0x0A: input = .keys
            case 0x1B: (input, filter) = (.keys, "")
            case 0x7F, 0x08: if !filter.isEmpty { filter.removeLast() }
            case 0x20..<0x7F: if filter.utf8.count < 40 { filter.unicodeScalars.append(Unicode.Scalar(byte)) }
            default: break
            }
            selected = visible.first?.organization
            first = 0
            return .none
        case .confirm(let organization, let pause):
            input = .keys
            guard byte == UInt8(ascii: "y") else { return .none }
            return pause ? .pause(organization) : .resume(organization)
        }
    }

    private mutating func pressKey(_ byte: UInt8) -> Action {
        message = nil
        switch byte {
        case UInt8(ascii: "q"): return .quit
        case UInt8(ascii: "s"): turnOrder(by: 1)
        case UInt8(ascii: "S"): turnOrder(by: Order.allCases.count - 1)
        case UInt8(ascii: "/"): input = .filter
        case UInt8(ascii: "j"): move(1)
        case UInt8(ascii: "k"): move(-1)
        case UInt8(ascii: "p"):
            guard let row = visible.first(where: { $0.organization == selected }) else { break }
            input = .confirm(row.organization, pause: !row.isPaused)
        default: break
        }
        return .none
    }

    private mutating func turnOrder(by step: Int) {
        guard let at = Order.allCases.firstIndex(of: order) else { return }
        order = Order.allCases[(at + step) % Order.allCases.count]
    }

    private mutating func move(_ step: Int) {
        let rows = visible
        guard !rows.isEmpty else { return }
        let at = rows.firstIndex { $0.organization == selected } ?? 0
        selected = rows[min(max(0, at + step), rows.count - 1)].organization
    }

    // MARK: Rows

    /// The rows that the filter lets through, in their order.
    private var visible: [TopRow] {
        let wanted = filter.lowercased()
        let rows = data.rows.filter {
            wanted.isEmpty || $0.name.lowercased().contains(wanted)
                || $0.organization.description.hasPrefix(wanted)
        }
        return rows.sorted { left, right in
            let (first, second) = (rank(left), rank(right))
            if first != second { return first > second }
            return (left.name, left.organization) < (right.name, right.organization)
        }
    }

    private func rank(_ row: TopRow) -> Double {
        switch order {
        case .depth: Double(row.depth)
        case .oldest: row.oldestSeconds ?? -1
        case .running: Double(row.running)
        case .rate: row.drainRate
        case .share: row.share ?? -1
        case .name: 0
        }
    }

    // MARK: Lines

    /// Exactly as many lines as the terminal has, none wider than it is.
    mutating func lines(at now: Instant) -> [Line] {
        let rows = visible
        let room = max(0, size.rows - 4)
        let at = rows.firstIndex { $0.organization == selected } ?? 0
        if at < first { first = at }
        if at >= first + room { first = at - room + 1 }
        first = max(0, min(first, rows.count - room))
        let columns = TopColumns(width: size.columns)
        var lines = [Line(text: summary(rows)), state(now), Line(text: columns.titles, style: .title)]
        for row in rows.dropFirst(first).prefix(room) {
            lines.append(
                Line(
                    text: columns.text(of: row),
                    style: row.organization == selected ? .selected : .plain))
        }
        while lines.count < size.rows - 1 { lines.append(Line(text: "")) }
        lines.append(foot)
        return lines.suffix(size.rows).map { line in
            Line(text: DisplayText.fitted(line.text, to: size.columns), style: line.style)
        }
    }

    private func summary(_ rows: [TopRow]) -> String {
        let depth = TopColumns.count(rows.reduce(0) { $0 + $1.depth })
        let running = TopColumns.count(rows.reduce(0) { $0 + $1.running })
        let rate = TopColumns.rate(rows.reduce(0) { $0 + $1.drainRate })
        let shown = data.isCut ? "the first \(rows.count)" : "\(rows.count)"
        return "\(shown) organizations  queued \(depth)  running \(running)  ended \(rate)/s"
            + (filter.isEmpty ? "" : "  filter \(filter)")
    }

    private func state(_ now: Instant) -> Line {
        if let trouble {
            let age = answered.map {
                "  last answer \(TopColumns.age(Double(now.microseconds - $0.microseconds) / 1e6)) ago"
            }
            return Line(text: "no answer: \(trouble)\(age ?? "")", style: .warning)
        }
        if let message { return Line(text: message, style: .warning) }
        if let everything = data.everything {
            let reason = everything.reason.map { ": \(Terminal.harmless($0))" } ?? ""
            return Line(
                text: "everything is \(everything.mode.participle) since \(everything.since)\(reason)",
                style: .warning)
        }
        return Line(text: answered == nil ? "asking the API…" : "")
    }

    private func name(of organization: OrganizationID) -> String {
        data.rows.first { $0.organization == organization }?.name ?? organization.description
    }

    private var foot: Line {
        switch input {
        case .keys: Line(text: "q quit  s sort: \(order.title)  / filter  p pause/resume  j k ↑ ↓ select")
        case .filter: Line(text: "filter: \(filter)_  (return: keep, escape: none)", style: .warning)
        case .confirm(let organization, let pause):
            Line(text: "\(pause ? "pause" : "resume") \(name(of: organization))? y/n", style: .warning)
        }
    }
}
