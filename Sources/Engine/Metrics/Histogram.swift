/// How many of some durations were at most how long.
package struct Histogram: Sendable, Equatable {
    /// The bounds in seconds: from what a person takes for at once to a day.
    package static let bounds: [Double] = [
        0.005, 0.025, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 300, 1_800, 7_200, 28_800, 86_400,
    ]

    private var counts = [Int](repeating: 0, count: Histogram.bounds.count + 1)
    /// All of them together.
    package private(set) var sum = 0.0

    /// No durations.
    package init() {}

    /// Counts one; what is below zero counts as zero, what is no number not at all.
    package mutating func count(_ seconds: Double) {
        guard seconds.isFinite else { return }
        let seconds = max(0, seconds)
        counts[Self.bounds.firstIndex { seconds <= $0 } ?? Self.bounds.count] += 1
        sum += seconds
    }

    /// How many there are.
    package var count: Int { counts.reduce(0, +) }

    /// How many are at most so long, by bound; the last is all of them.
    package var cumulative: [(bound: Double?, count: Int)] {
        var total = 0
        return counts.enumerated().map { index, count in
            total += count
            return (index < Self.bounds.count ? Self.bounds[index] : nil, total)
        }
    }
}
