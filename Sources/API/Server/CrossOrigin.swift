import HTTPTypes
import Hummingbird

/// Which pages of other origins may read the API's answers (the Fetch standard's CORS protocol): those of a
/// list, and without one none.
///
/// An origin is allowed as a whole, never by a pattern. No answer allows credentials: a cookie of the API
/// does not go to other sites, so such pages send a key or a session in the Authorization header.
struct CrossOrigin: Sendable {
    /// What a page's script may send beyond what every script may.
    private static let requestHeaders =
        "Authorization, Content-Type, Idempotency-Key, If-Match, If-None-Match, traceparent"
    /// What a page's script may read beyond what every script may.
    private static let answerHeaders =
        "ETag, Link, RateLimit, RateLimit-Policy, Retry-After, X-Request-Id, traceparent"
    /// For how many seconds a browser need not ask again.
    private static let maxAgeSeconds = 600

    let origins: Set<String>

    /// The origin of a request, if its pages may read the answer.
    func origin(of request: Request) -> String? {
        let fields = request.headers[values: .origin]
        guard fields.count == 1, origins.contains(fields[0]) else { return nil }
        return fields[0]
    }

    /// Says in an answer who may read it; caches are told that it depends on who asks.
    func mark(_ headers: inout HTTPFields, for request: Request) {
        guard !origins.isEmpty else { return }
        headers[.vary] = (headers[.vary].map { "\($0), " } ?? "") + "Origin"
        guard let origin = origin(of: request) else { return }
        headers[.accessControlAllowOrigin] = origin
        headers[.accessControlExposeHeaders] = Self.answerHeaders
    }

    /// The answer to a browser that asks before it sends a request of a page; `nil` if this is none of an
    /// origin that is allowed.
    func preflight(_ request: Request, methods: [HTTPRequest.Method]) -> Reply? {
        guard request.method == .options, request.headers[.accessControlRequestMethod] != nil,
            origin(of: request) != nil
        else { return nil }
        var reply = Reply.empty
        reply.headers[.accessControlAllowMethods] = methods.map(\.rawValue).joined(separator: ", ")
        reply.headers[.accessControlAllowHeaders] = Self.requestHeaders
        reply.headers[.accessControlMaxAge] = "\(Self.maxAgeSeconds)"
        return reply
    }
}

/// An origin as browsers write it: `https://host` or `https://host:port`, in lower case, without a path;
/// plain `http://` of this machine only.
package struct AllowedOrigin: Sendable, Equatable {
    /// The origin.
    package let text: String

    /// The origin of text; `nil` for anything else, `*` and `null` among it.
    package init?(_ text: String) {
        let isPlain = text.hasPrefix("http://")
        guard text.hasPrefix("https://") || isPlain else { return nil }
        let authority = text.dropFirst(isPlain ? 7 : 8)
        let parts = authority.split(separator: ":", omittingEmptySubsequences: false)
        guard (1...2).contains(parts.count), (1...253).contains(parts[0].utf8.count),
            parts[0].utf8.allSatisfy({ byte in
                (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte)
                    || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte) || byte == UInt8(ascii: "-")
                    || byte == UInt8(ascii: ".")
            })
        else { return nil }
        if parts.count == 2 {
            // Browsers leave the usual port out, so an origin with it would match nothing.
            guard let port = UInt16(parts[1]), port > 0, String(port) == parts[1],
                port != (isPlain ? 80 : 443)
            else { return nil }
        }
        if isPlain, !APIConfiguration.loopback.contains(String(parts[0])) { return nil }
        self.text = text
    }

    /// The origins of a list with commas; `nil` if one is none.
    package static func list(_ text: String) -> Set<String>? {
        let origins = text.split(separator: ",").map { part in
            AllowedOrigin(String(part.drop { $0 == " " }))
        }
        return origins.contains(nil) ? nil : Set(origins.compactMap { $0?.text })
    }
}
