import Engine
import Gateway

/// What the roles of a process have counted, as Prometheus text.
func metricsText(gateway: Gateway?, api: EventCounters?) -> String {
    var lines: [String] = []
    if let gateway {
        lines += [
            "# HELP cloudrmm_gateway_sessions Agents' sessions that this gateway holds.",
            "# TYPE cloudrmm_gateway_sessions gauge",
            "cloudrmm_gateway_sessions \(gateway.sessionCount)",
        ]
        lines += counts(
            "cloudrmm_gateway_events_total", "What the gateway did, by event.", gateway.counters)
    }
    if let api {
        lines += counts("cloudrmm_api_events_total", "What the API did, by event; refused.CODE.", api)
    }
    return lines.joined(separator: "\n") + "\n"
}

private func counts(_ name: String, _ help: String, _ counters: EventCounters) -> [String] {
    ["# HELP \(name) \(help)", "# TYPE \(name) counter"]
        + counters.snapshot.sorted { $0.key < $1.key }.map { event, count in
            let safe = event.filter { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == ".") }
            return "\(name){event=\"\(safe)\"} \(count)"
        }
}
