import Domain
import HTTPTypes
import Trust
import Wire

@testable import API

/// The fields of lines; a line without a colon or with a name that is none is left out.
private func fields(of bytes: [UInt8]) -> HTTPFields {
    var fields = HTTPFields()
    for line in bytes.split(separator: UInt8(ascii: "\n")).prefix(64) {
        let halves = line.split(separator: UInt8(ascii: ":"), maxSplits: 1, omittingEmptySubsequences: false)
        guard halves.count == 2, let name = HTTPField.Name(String(decoding: halves[0], as: UTF8.self)) else {
            continue
        }
        fields.append(
            HTTPField(name: name, value: String(decoding: halves[1].drop { $0 == 32 }, as: UTF8.self)))
    }
    return fields
}

func checkHeaders(_ bytes: [UInt8]) {
    let fields = fields(of: bytes)
    var random = RandomWords(atOnce: 3)
    let trace = RequestHeaders.trace(of: fields, using: &random)
    promise(TraceContext(trace.traceparent) == trace, "a trace is written otherwise")
    promise(TraceContext(bytes: trace.bytes) == trace, "a trace is kept otherwise")
    if let key = accepted({ try RequestHeaders.idempotencyKey(of: fields) }) ?? nil {
        promise(Limits.idempotencyKeyBytes.contains(key.utf8.count), "a key is too long")
    }
    if let version = accepted({ try RequestHeaders.version(of: fields) }) ?? nil {
        promise(version > 0, "a version is \(version)")
    }
    if let credential = accepted({ try RequestHeaders.bearer(of: fields) }) {
        promise(!credential.isEmpty && !credential.contains(" "), "a credential has spaces")
    }
    _ = accepted { try RequestHeaders.checkContentType(of: fields) }
    _ = SessionCookie.secret(in: fields)
    _ = Compression.takesGzip(fields[values: .acceptEncoding])
    _ = RequestHeaders.hostName(fields[.origin] ?? "")
    for field in fields {
        let features = Features(header: [field.value])
        promise(Features(header: [features.header]) == features, "features are written otherwise")
        _ = RequestHeaders.hostName(field.value)
        _ = RequestHeaders.plainTag(field.value)
        if let origin = AllowedOrigin(field.value) {
            promise(AllowedOrigin.list(origin.text) == [origin.text], "an origin is no list of one")
        }
    }
}
