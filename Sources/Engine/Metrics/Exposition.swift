/// Samples of families as Prometheus text, version 0.0.4: each family once, with HELP and TYPE, whether it
/// has samples or not.
package struct Exposition: Sendable {
    /// A value under the values of its family's labels.
    private struct Sample: Sendable {
        let labels: [String]
        let value: Double
    }

    private var samples: [String: [Sample]] = [:]
    private var histograms: [String: [(labels: [String], histogram: Histogram)]] = [:]

    /// Nothing yet.
    package init() {}

    /// Adds the one sample of a family without labels.
    package mutating func add(_ family: MetricFamily, _ value: Double) { add(family, [], value) }

    /// Adds a sample of a counter or a gauge.
    package mutating func add(_ family: MetricFamily, _ labels: [String], _ value: Double) {
        precondition(family.kind != .histogram && labels.count == family.labels.count)
        samples[family.name, default: []].append(Sample(labels: labels, value: value))
    }

    /// Adds a histogram.
    package mutating func add(_ family: MetricFamily, _ labels: [String], _ histogram: Histogram) {
        precondition(family.kind == .histogram && labels.count == family.labels.count)
        histograms[family.name, default: []].append((labels, histogram))
    }

    /// The text.
    package var text: String {
        var text = ""
        for family in MetricFamily.all {
            text += "# HELP \(family.name) \(Self.escaped(family.help, quotes: false))\n"
            text += "# TYPE \(family.name) \(family.kind.rawValue)\n"
            for sample in samples[family.name] ?? [] {
                text += family.name + Self.text(of: family.labels, sample.labels)
                text += " \(Self.text(of: sample.value))\n"
            }
            for (labels, histogram) in histograms[family.name] ?? [] {
                for (bound, count) in histogram.cumulative {
                    let bound = bound.map(Self.text(of:)) ?? "+Inf"
                    text += "\(family.name)_bucket" + Self.text(of: family.labels + ["le"], labels + [bound])
                    text += " \(count)\n"
                }
                let names = Self.text(of: family.labels, labels)
                text += "\(family.name)_sum\(names) \(Self.text(of: histogram.sum))\n"
                text += "\(family.name)_count\(names) \(histogram.count)\n"
            }
        }
        return text
    }

    private static func text(of names: [String], _ values: [String]) -> String {
        guard !names.isEmpty else { return "" }
        let pairs = zip(names, values).map { "\($0)=\"\(escaped($1, quotes: true))\"" }
        return "{\(pairs.joined(separator: ","))}"
    }

    private static func text(of value: Double) -> String {
        value == value.rounded() && abs(value) < 1e15 ? "\(Int(value))" : "\(value)"
    }

    private static func escaped(_ text: String, quotes: Bool) -> String {
        var escaped = ""
        for scalar in text.unicodeScalars {
            switch scalar {
            case "\\": escaped += "\\\\"
            case "\n": escaped += "\\n"
            case "\"" where quotes: escaped += "\\\""
            default: escaped.unicodeScalars.append(scalar)
            }
        }
        return escaped
    }
}
