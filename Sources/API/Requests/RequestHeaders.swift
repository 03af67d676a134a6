import Access
import Domain
import HTTPTypes
import Wire

/// What the header fields of a request say to this API.
enum RequestHeaders {
    /// A step of the caller's trace, or of a new one where none is named that can be read.
    static func trace(
        of fields: HTTPFields, using random: inout some RandomNumberGenerator
    ) -> TraceContext {
        let values = fields[values: .traceparent]
        guard values.count == 1, let caller = TraceContext(values[0]) else { return .new(using: &random) }
        return caller.next(using: &random)
    }

    /// The name of `name:port`, `[::1]:port` or either without a port, in lower case.
    static func hostName(_ authority: String) -> String {
        let text = authority.lowercased()
        if text.hasPrefix("["), let end = text.firstIndex(of: "]") {
            return String(text[text.index(after: text.startIndex)..<end])
        }
        return String(text.prefix { $0 != ":" })
    }

    /// The credential of the one Authorization field.
    static func bearer(of fields: HTTPFields) throws(AccessError) -> String {
        let values = fields[values: .authorization]
        guard values.count == 1, let space = values[0].utf8.firstIndex(of: UInt8(ascii: " ")),
            values[0][..<space].lowercased() == "bearer"
        else { throw AccessError.unauthorized }
        let credential = values[0][space...].utf8.drop { $0 == UInt8(ascii: " ") }
        guard !credential.isEmpty, !credential.contains(UInt8(ascii: " ")) else {
            throw AccessError.unauthorized
        }
        return String(Substring(credential))
    }

    /// The `Idempotency-Key`, if there is one.
    static func idempotencyKey(of fields: HTTPFields) throws -> String? {
        guard let key = fields[.idempotencyKey] else { return nil }
        guard Limits.idempotencyKeyBytes.contains(key.utf8.count),
            key.utf8.allSatisfy({ (0x20..<0x7F).contains($0) })
        else {
            throw FieldError(
                .invalid, field: "Idempotency-Key",
                "must be 1 to \(Limits.idempotencyKeyBytes.upperBound) printable ASCII characters"
            )
        }
        return key
    }

    /// The version of `If-Match`; `nil` if there is none, or any will do (RFC 9110, 13.1.1).
    static func version(of fields: HTTPFields) throws -> Int? {
        let values = fields[values: .ifMatch]
        guard let field = values.first else { return nil }
        if values == ["*"] { return nil }
        let tag = plainTag(field)
        guard values.count == 1, tag.hasPrefix("\""), tag.hasSuffix("\""), tag.utf8.count > 2,
            let version = Int(tag.dropFirst().dropLast()), version > 0
        else {
            throw FieldError(
                .invalid, field: "If-Match", "must be the ETag of an answer, a number in quotes, or *")
        }
        return version
    }

    /// The tag of an answer whose tag was read from a compressed one.
    static func plainTag(_ tag: String) -> String {
        tag.hasSuffix("-gzip\"") ? tag.dropLast(6) + "\"" : tag
    }

    /// Refuses every type of a body but JSON.
    static func checkContentType(of fields: HTTPFields) throws {
        let type = (fields[.contentType] ?? "").prefix { $0 != ";" }.lowercased()
        let isJSON = ["application/json", "application/merge-patch+json"].contains(
            type.split(separator: " ").first)
        guard isJSON else {
            throw Problem(
                .unsupportedMediaType,
                "the body must be sent as Content-Type: application/json")
        }
    }
}

extension HTTPField.Name {
    static let xRequestID = HTTPField.Name("X-Request-Id")!
    static let traceparent = HTTPField.Name("traceparent")!
    static let csrfToken = HTTPField.Name("X-CSRF-Token")!
    static let idempotencyKey = HTTPField.Name("Idempotency-Key")!
    static let rateLimit = HTTPField.Name("RateLimit")!
    static let rateLimitPolicy = HTTPField.Name("RateLimit-Policy")!
}
