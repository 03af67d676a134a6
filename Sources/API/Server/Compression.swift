import HTTPTypes
import Hummingbird
import NIOCore
import Outbound

/// Makes answers smaller for callers who take gzip (RFC 9110, 12.5.3).
///
/// Only what is read (GET), with a key: an answer that a page can have a browser ask for, with its cookie and
/// with text of the page's choice in it, would tell by its length what else is in it (BREACH). What shows a
/// secret answers a POST, and so stays as it is, as do event streams and small answers.
enum Compression {
    /// Below this there is nothing to be gained.
    static let bytesMin = 1 << 10
    private static let types: Set<Substring> = [
        "application/json", "application/problem+json", "text/html", "text/css", "text/javascript",
        "image/svg+xml",
    ]

    /// Compresses an answer, if it may be and the caller takes it.
    static func apply(to reply: inout Reply, of request: Request) {
        guard let content = reply.content, mayCompress(content, reply.headers[.contentType] ?? ""),
            request.method == .get || request.method == .head
        else { return }
        reply.headers[.vary] = "Accept-Encoding"
        guard SessionCookie.secret(in: request.headers) == nil || request.headers[.authorization] != nil,
            takesGzip(request.headers[values: .acceptEncoding]),
            let small = reply.compressed ?? Gzip.compress(content),
            small.count < content.count
        else { return }
        reply.headers[.contentEncoding] = "gzip"
        reply.headers[.contentLength] = String(small.count)
        reply.body = ResponseBody(byteBuffer: ByteBuffer(bytes: small))
        // RFC 9110, 8.8.3.3: what is encoded is another representation.
        if let etag = reply.headers[.eTag], etag.hasSuffix("\"") {
            reply.headers[.eTag] = etag.dropLast() + "-gzip\""
        }
    }

    /// Bytes of a type made smaller; `nil` where there is nothing to be gained.
    static func compress(_ bytes: [UInt8], _ contentType: String) -> [UInt8]? {
        mayCompress(bytes, contentType) ? Gzip.compress(bytes) : nil
    }

    private static func mayCompress(_ bytes: [UInt8], _ contentType: String) -> Bool {
        bytes.count >= bytesMin && types.contains(contentType.prefix { $0 != ";" })
    }

    /// Whether gzip is taken, and not liked less than the text as it is.
    static func takesGzip(_ fields: [String]) -> Bool {
        var weights: [String: Double] = [:]
        for part in fields.joined(separator: ",").split(separator: ",") {
            let pieces = part.split(separator: ";").map { $0.filter { $0 != " " && $0 != "\t" }.lowercased() }
            guard let coding = pieces.first else { continue }
            var weight = 1.0
            for piece in pieces.dropFirst() where piece.hasPrefix("q=") {
                // What cannot be read is not taken.
                weight = Double(piece.dropFirst(2)) ?? 0
            }
            weights[coding == "x-gzip" ? "gzip" : coding] = weight
        }
        let gzip = weights["gzip"] ?? weights["*"] ?? 0
        return gzip > 0 && gzip >= weights["identity"] ?? 0
    }
}
