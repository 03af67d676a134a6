package import Domain
import Ledger
import Outbound
package import Trust
import Wire

/// What a webhook's receiver gets for a delivery: body and headers.
///
///     POST <url>
///     Content-Type: application/json
///     CloudRMM-Event: job.ended
///     CloudRMM-Delivery: <id of the delivery: the same each time it is sent>
///     CloudRMM-Signature: t=<unix seconds>,v1=<hex HMAC-SHA-256>[,v1=<the same by the secret before>]
///
///     {"id": <event>, "type", "at", "organizationId"?, "partnerId"?, "data": {…}}
///
/// What is signed is `t.delivery.body`; the key is the secret's text as it was shown.
package struct WebhookMessage: Sendable {
    /// The longest exchange, and the most of an answer that is read.
    package static let timeout = Duration.seconds(10)
    package static let answerBytesMax = 64 << 10

    let request: HTTPRequest

    /// The message of a delivery, signed at a time by all secrets that are in force.
    init(_ due: DueDelivery, secrets: [SecretBytes], at time: Instant) {
        let body = Self.body(of: due)
        let signature = Self.signature(
            of: body, delivery: due.id, secrets: secrets, unixSeconds: time.microseconds / 1_000_000)
        request = HTTPRequest(
            method: "POST", url: due.webhook.url,
            headers: [
                ("Content-Type", "application/json"), ("User-Agent", "CloudRMM"),
                ("CloudRMM-Event", due.type), ("CloudRMM-Delivery", due.id.description),
                ("CloudRMM-Signature", signature),
            ], body: body, timeout: Self.timeout, responseBytesMax: Self.answerBytesMax)
    }

    /// The body: the same bytes each time.
    static func body(of due: DueDelivery) -> [UInt8] {
        var writer = JSONWriter()
        writer.object { writer in
            writer.field("id", due.event)
            writer.field("type", due.type)
            writer.field("at", due.at)
            writer.field("organizationId", due.organization)
            writer.field("partnerId", due.partner)
            writer.field("data", Raw(text: due.data))
        }
        return writer.bytes
    }

    /// The header's value.
    package static func signature(
        of body: [UInt8], delivery: WebhookDeliveryID, secrets: [SecretBytes], unixSeconds: Int64
    ) -> String {
        let message = Array("\(unixSeconds).\(delivery).".utf8) + body
        return
            (["t=\(unixSeconds)"]
            + secrets.map { "v1=" + Hex.encode(hmacSHA256(key: $0.copy(), message: message)[...]) })
            .joined(separator: ",")
    }

    private struct Raw: JSONWritable {
        let text: String

        func write(to writer: inout JSONWriter) { writer.append(raw: text.utf8) }
    }
}
