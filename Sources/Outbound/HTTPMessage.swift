/// One HTTP request to the outside.
package struct HTTPRequest: Sendable {
    /// The method in upper case.
    package var method: String
    /// An absolute `http` or `https` URL without user and password.
    package var url: String
    /// Header fields in the order in which they are sent.
    package var headers: [(String, String)]
    /// The body; empty means none, except that POST, PUT and PATCH then say `Content-Length: 0`.
    package var body: [UInt8]
    /// For `send` the limit on the whole exchange, for `stream` on each silence before and between chunks.
    package var timeout: Duration
    /// For `send` the most body bytes taken; for `stream` the most kept unread before the sender has to wait.
    package var responseBytesMax: Int
    /// A PEM file with the only authorities to trust; nil means the system's.
    package var certificateAuthorityPath: String?

    /// A request with the limits of an ordinary API call: 30 s and 16 MiB.
    package init(
        method: String = "GET", url: String, headers: [(String, String)] = [], body: [UInt8] = [],
        timeout: Duration = .seconds(30), responseBytesMax: Int = 16 << 20,
        certificateAuthorityPath: String? = nil
    ) {
        self.method = method
        self.url = url
        self.headers = headers
        self.body = body
        self.timeout = timeout
        self.responseBytesMax = responseBytesMax
        self.certificateAuthorityPath = certificateAuthorityPath
    }

    /// Refuses what could not be sent as given: separators or NUL in method, URL or header fields.
    func validate() throws(OutboundError) {
        guard !method.isEmpty, method.utf8.allSatisfy(Self.isTokenByte) else {
            throw OutboundError(.invalidRequest, "the method is not an HTTP token")
        }
        guard url.utf8.allSatisfy({ $0 > 0x20 && $0 != 0x7F }) else {
            throw OutboundError(.invalidURL, "the URL has a space or control character")
        }
        // Without a scheme libcurl would guess one from the host's name.
        guard ["http://", "https://"].contains(where: url.lowercased().hasPrefix) else {
            throw OutboundError(.invalidURL, "the URL does not begin with http:// or https://")
        }
        guard certificateAuthorityPath?.utf8.contains(0) != true else {
            throw OutboundError(.invalidRequest, "the path of the certificate authority has a NUL")
        }
        for (name, value) in headers {
            guard !name.isEmpty, name.utf8.allSatisfy(Self.isTokenByte) else {
                throw OutboundError(.invalidRequest, "a header name is not an HTTP token")
            }
            guard value.utf8.allSatisfy({ ($0 >= 0x20 && $0 != 0x7F) || $0 == 0x09 }) else {
                throw OutboundError(.invalidRequest, "the header \(name) has a control character")
            }
        }
    }

    /// RFC 9110 `tchar`.
    private static func isTokenByte(_ byte: UInt8) -> Bool {
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"):
            true
        default:
            "!#$%&'*+-.^_`|~".utf8.contains(byte)
        }
    }
}

/// The answer to an `HTTPRequest`.
package struct HTTPResponse: Sendable {
    /// The status code, such as 200.
    package var status: Int
    /// Header fields in the order received; names in lower case.
    package var headers: [(String, String)]
    /// The whole body.
    package var body: [UInt8]

    /// A response from its parts; names are put into lower case.
    package init(status: Int, headers: [(String, String)] = [], body: [UInt8] = []) {
        self.status = status
        self.headers = headers.map { ($0.0.lowercased(), $0.1) }
        self.body = body
    }

    /// The first value of a header field, whatever the case of `name`.
    package func header(_ name: String) -> String? {
        let name = name.lowercased()
        return headers.first { $0.0 == name }?.1
    }
}

/// Collects status and header fields as libcurl hands them out line by line.
struct ResponseHead {
    /// The most bytes of header lines taken of one response, trailers included.
    static let bytesMax = 64 << 10

    private(set) var status = 0
    private(set) var headers: [(String, String)] = []
    private var bytes = 0

    /// Takes one line; false when the head is larger than allowed.
    mutating func take(line: [UInt8]) -> Bool {
        bytes += line.count
        guard bytes <= Self.bytesMax else { return false }
        if line.starts(with: "HTTP/".utf8) {
            let parts = line.split(separator: UInt8(ascii: " "), maxSplits: 2)
            status = parts.count > 1 ? Int(String(decoding: parts[1].prefix(3), as: UTF8.self)) ?? 0 : 0
            headers = []
        } else if let colon = line.firstIndex(of: UInt8(ascii: ":")) {
            let name = String(decoding: line[..<colon], as: UTF8.self).lowercased()
            let isSpace: (UInt8) -> Bool = { $0 == 0x20 || $0 == 0x09 || $0 == 0x0D || $0 == 0x0A }
            var value = line[(colon + 1)...].drop(while: isSpace)
            while let last = value.last, isSpace(last) { value.removeLast() }
            headers.append((name, String(decoding: value, as: UTF8.self)))
        }
        return true
    }
}
