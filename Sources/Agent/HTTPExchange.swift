import Trust
import Wire

/// An answer of an HTTP server.
struct HTTPAnswer: Sendable, Equatable {
    let status: Int
    let body: [UInt8]
}

/// A minimal HTTP/1.1 client for one exchange over TLS: what enrolment needs, and no more. It blocks.
///
/// Takes answers with `Content-Length` or chunked, with a bounded head and body; no redirects, one exchange a
/// connection.
struct HTTPExchange {
    static let headBytesMax = 16 << 10
    static let bodyBytesMax = 256 << 10

    /// Sends JSON and returns the answer; throws `connection` for everything that is not an answer.
    static func post(_ json: [UInt8], to path: String, at address: ServiceAddress, trustedCA: String) throws
        -> HTTPAnswer
    {
        do {
            let tls = try TLSContext.client(trustedCA: trustedCA, minimum: .v12, alpn: ["http/1.1"])
            let stream = try TLSStream.connect(host: address.host, port: address.port, context: tls)
            defer { stream.close() }
            stream.timeout = .seconds(30)
            let head =
                "POST \(address.path)\(path) HTTP/1.1\r\nHost: \(address.authority)\r\n"
                + "Content-Type: application/json\r\n"
                + "Accept: application/json, application/problem+json\r\nContent-Length: \(json.count)\r\n"
                + "Connection: close\r\n\r\n"
            try stream.write(Array(head.utf8) + json)
            var reader = HTTPAnswerReader()
            while true {
                if let answer = try reader.next() { return answer }
                try reader.take(stream.read())
            }
        } catch let error as AgentError {
            throw error
        } catch {
            throw AgentError(.connection, "\(address.authority) could not be asked", cause: error)
        }
    }
}

/// Reads one answer from bytes as they come. Pure.
struct HTTPAnswerReader {
    private enum Framing {
        case length(Int)
        case chunked
    }

    private var buffer: [UInt8] = []
    private var hasEnded = false
    private var head: (status: Int, framing: Framing)?
    private var body: [UInt8] = []

    init() {}

    /// Takes the next bytes; none means that the server has closed.
    mutating func take(_ bytes: [UInt8]) throws(AgentError) {
        guard !hasEnded else { throw refusal("ended in the middle") }
        if bytes.isEmpty { hasEnded = true }
        buffer += bytes
    }

    /// The whole answer, or `nil` if more bytes are needed.
    mutating func next() throws(AgentError) -> HTTPAnswer? {
        if head == nil { try readHead() }
        guard let head else { return nil }
        switch head.framing {
        case .length(let count):
            guard buffer.count >= count else { return nil }
            return HTTPAnswer(status: head.status, body: Array(buffer.prefix(count)))
        case .chunked:
            while let chunk = try readChunk() {
                guard !chunk.isEmpty else { return HTTPAnswer(status: head.status, body: body) }
                body += chunk
                guard body.count <= HTTPExchange.bodyBytesMax else { throw tooLarge }
            }
            return nil
        }
    }

    private mutating func readHead() throws(AgentError) {
        var lines: [String] = []
        var rest = buffer[...]
        while let line = Self.line(&rest), !line.isEmpty { lines.append(line) }
        guard buffer.count - rest.count <= HTTPExchange.headBytesMax else {
            throw refusal("has too large a head")
        }
        guard rest.count < buffer.count, Self.hasBlankLine(buffer[..<rest.startIndex]) else {
            guard buffer.count <= HTTPExchange.headBytesMax else { throw refusal("has too large a head") }
            return
        }
        buffer = Array(rest)
        let parts = lines.first?.split(separator: " ", maxSplits: 2) ?? []
        guard parts.count >= 2, parts[0].hasPrefix("HTTP/1."), let status = Int(parts[1]),
            (200...599).contains(status)
        else { throw refusal("is not HTTP/1.1") }
        var framing: Framing?
        for line in lines.dropFirst() {
            guard let colon = line.firstIndex(of: ":") else {
                throw refusal("has a header line without a colon")
            }
            let value = line[line.index(after: colon)...].filter { $0 != " " && $0 != "\t" }.lowercased()
            switch line[..<colon].lowercased() {
            case "transfer-encoding":
                guard value == "chunked", framing == nil else { throw refusal("has an unknown framing") }
                framing = .chunked
            case "content-length":
                guard let count = Int(value), count >= 0, framing == nil else {
                    throw refusal("has an unknown framing")
                }
                guard count <= HTTPExchange.bodyBytesMax else { throw tooLarge }
                framing = .length(count)
            default: break
            }
        }
        guard let framing = framing ?? (status == 204 ? .length(0) : nil) else {
            throw refusal("has an unknown framing")
        }
        head = (status, framing)
    }

    /// The next whole chunk, empty for the last; `nil` if more bytes are needed.
    private mutating func readChunk() throws(AgentError) -> [UInt8]? {
        var rest = buffer[...]
        guard let line = Self.line(&rest) else {
            guard buffer.count <= 1_024 else { throw refusal("has a chunk without a size") }
            return nil
        }
        guard let count = Int(line.prefix { $0 != ";" }, radix: 16), count >= 0 else {
            throw refusal("has a chunk without a size")
        }
        guard count <= HTTPExchange.bodyBytesMax else { throw tooLarge }
        guard rest.count >= count + 2 else { return nil }
        let chunk = Array(rest.prefix(count))
        buffer = Array(rest.dropFirst(count + 2))
        return chunk
    }

    private static func hasBlankLine(_ head: ArraySlice<UInt8>) -> Bool {
        head.suffix(4).elementsEqual("\r\n\r\n".utf8)
    }

    /// Takes one line with its CR LF off the front.
    private static func line(_ bytes: inout ArraySlice<UInt8>) -> String? {
        guard let end = bytes.firstIndex(of: UInt8(ascii: "\n")) else { return nil }
        var line = bytes[..<end]
        if line.last == UInt8(ascii: "\r") { line = line.dropLast() }
        bytes = bytes[(end + 1)...]
        return String(decoding: line, as: UTF8.self)
    }

    private var tooLarge: AgentError { refusal("has more than \(HTTPExchange.bodyBytesMax) bytes") }

    private func refusal(_ what: String) -> AgentError {
        AgentError(.connection, "the server's answer \(what)")
    }
}
