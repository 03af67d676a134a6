import Domain

/// The columns that fit a width, and their texts.
struct TopColumns {
    private struct Column: Sendable {
        let title: String
        let width: Int
        /// The higher, the sooner it is left out.
        let rank: Int
        let text: @Sendable (TopRow) -> String
    }

    private static let all: [Column] = [
        Column(title: "DEPTH", width: 6, rank: 0) {
            ($0.isExact ? "" : "~") + count($0.depth)
        },
        Column(title: "OLDEST", width: 6, rank: 2) { $0.oldestSeconds.map(age) ?? "" },
        Column(title: "WAITING", width: 7, rank: 7) { count($0.waiting) },
        Column(title: "RUN", width: 5, rank: 1) { count($0.running) },
        Column(title: "CAP", width: 5, rank: 8) { $0.cap.map(count) ?? "" },
        Column(title: "END/S", width: 6, rank: 4) { rate($0.drainRate) },
        Column(title: "WEIGHT", width: 6, rank: 9) { rate($0.weight) },
        Column(title: "SHARE", width: 5, rank: 5) { percent($0.share) },
        Column(title: "ENTL", width: 4, rank: 6) { percent($0.entitlement) },
        Column(title: "STATE", width: 6, rank: 3) { $0.state },
        Column(title: "ID", width: 36, rank: 10) { $0.organization.description },
    ]

    private static let nameMin = 12
    private let shown: [Column]
    private let name: Int

    /// The columns of a terminal so wide: names get what is left.
    init(width: Int) {
        var columns = Self.all
        func taken() -> Int { columns.reduce(0) { $0 + $1.width + 1 } }
        while !columns.isEmpty, width - taken() < Self.nameMin,
            let last = columns.indices.max(by: { columns[$0].rank < columns[$1].rank })
        {
            columns.remove(at: last)
        }
        (shown, name) = (columns, max(0, width - taken()))
    }

    /// The titles.
    var titles: String {
        shown.reduce(DisplayText.fitted("ORGANIZATION", to: name)) { line, column in
            line + " " + DisplayText.fitted(column.title, to: column.width, alignedRight: true)
        }
    }

    /// One organization.
    func text(of row: TopRow) -> String {
        shown.reduce(DisplayText.fitted(row.name, to: name)) { line, column in
            line + " " + DisplayText.fitted(column.text(row), to: column.width, alignedRight: true)
        }
    }

    // MARK: Numbers

    /// `950`, `12.3k`, `4.5M`.
    static func count(_ value: Int) -> String {
        switch value {
        case ..<10_000: "\(value)"
        case ..<1_000_000: tenths(Double(value) / 1e3, "k")
        case ..<1_000_000_000: tenths(Double(value) / 1e6, "M")
        default: tenths(Double(value) / 1e9, "G")
        }
    }

    /// `0.2`, `12.5`, `950`, `12.3k`.
    static func rate(_ value: Double) -> String {
        value < 100 ? tenths(value, "") : count(Int(value.rounded()))
    }

    /// `59s`, `12m`, `3h`, `2d`.
    static func age(_ seconds: Double) -> String {
        switch seconds {
        case ..<100: "\(Int(max(0, seconds)))s"
        case ..<6_000: "\(Int(seconds / 60))m"
        case ..<172_800: "\(Int(seconds / 3_600))h"
        default: "\(Int(seconds / 86_400))d"
        }
    }

    static func percent(_ part: Double?) -> String { part.map { "\(Int(($0 * 100).rounded()))%" } ?? "" }

    private static func tenths(_ value: Double, _ unit: String) -> String {
        let tenths = Int((value * 10).rounded(.down))
        return "\(tenths / 10).\(tenths % 10)\(unit)"
    }
}
