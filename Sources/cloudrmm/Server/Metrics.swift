import Gateway

/// What the gateway has counted, as Prometheus text.
func metricsText(of gateway: Gateway) -> String {
    var lines = [
        "# HELP cloudrmm_gateway_sessions Agents' sessions that this gateway holds.",
        "# TYPE cloudrmm_gateway_sessions gauge", "cloudrmm_gateway_sessions \(gateway.sessionCount)",
        "# HELP cloudrmm_gateway_events_total What the gateway did, by event.",
        "# TYPE cloudrmm_gateway_events_total counter",
    ]
    for (event, count) in gateway.counters.snapshot.sorted(by: { $0.key < $1.key }) {
        let safe = event.filter { $0.isASCII && ($0.isLetter || $0.isNumber || $0 == ".") }
        lines.append("cloudrmm_gateway_events_total{event=\"\(safe)\"} \(count)")
    }
    return lines.joined(separator: "\n") + "\n"
}
