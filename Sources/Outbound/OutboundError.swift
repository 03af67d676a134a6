import CCurl

/// Why a request to the outside did not produce a response.
///
/// `message` is coarse and may be shown to a tenant; `cause` is the library's or the guard's own words and is
/// for logs and operators only, because it tells what was found at an address.
package struct OutboundError: Error, CustomStringConvertible {
    /// What kind of failure it is.
    package struct Code: Hashable, Sendable, CustomStringConvertible {
        private enum Kind: String {
            case address, timeout, tls, bodyTooLarge, connection, cancelled, invalidURL, invalidRequest,
                status
        }
        private let kind: Kind

        /// The host's address is one that this client must not talk to.
        package static let address = Self(kind: .address)
        /// Nothing, or not enough, arrived within the request's time limit.
        package static let timeout = Self(kind: .timeout)
        /// The handshake failed or the peer's certificate is not trusted.
        package static let tls = Self(kind: .tls)
        /// The response has more bytes than the request allows.
        package static let bodyTooLarge = Self(kind: .bodyTooLarge)
        /// The name did not resolve, or the connection failed or ended early.
        package static let connection = Self(kind: .connection)
        /// The caller's task was cancelled or the client was closed.
        package static let cancelled = Self(kind: .cancelled)
        /// The URL does not parse or has a scheme or user that is not allowed.
        package static let invalidURL = Self(kind: .invalidURL)
        /// The method or a header cannot be sent as given.
        package static let invalidRequest = Self(kind: .invalidRequest)
        /// A stream was answered with a status other than 2xx; `response` holds the answer.
        package static let status = Self(kind: .status)

        /// The stable name of the code.
        package var description: String { kind.rawValue }
    }

    /// What kind of failure it is.
    package let code: Code
    /// One sentence that does not tell what was found at the address.
    package let message: String
    /// The details in the words of the library or guard; for logs and operators.
    package let cause: String?
    /// The answer to a stream that was refused by its status.
    package let response: HTTPResponse?
    /// Where it was thrown.
    package let location: String

    init(
        _ code: Code, _ message: String, cause: String? = nil, response: HTTPResponse? = nil,
        file: String = #fileID, line: Int = #line
    ) {
        self.code = code
        self.message = message
        self.cause = cause
        self.response = response
        self.location = "\(file):\(line)"
    }

    /// Whether the same request may succeed later without a change.
    package var isTransient: Bool { code == .timeout || code == .connection }

    /// The message and the cause, for operators.
    package var description: String { cause.map { "\(message): \($0)" } ?? message }
}

extension OutboundError {
    /// The error for a result of libcurl; `detail` is the text of its error buffer.
    static func transfer(_ result: CURLcode, detail: String) -> OutboundError {
        let cause = detail.isEmpty ? unsafe String(cString: curl_easy_strerror(result)) : detail
        switch result {
        case CURLE_OPERATION_TIMEDOUT:
            return OutboundError(.timeout, "the request took longer than its time limit", cause: cause)
        case CURLE_URL_MALFORMAT, CURLE_UNSUPPORTED_PROTOCOL, CURLE_LOGIN_DENIED:
            return OutboundError(
                .invalidURL, "the URL is not valid or its scheme is not allowed", cause: cause)
        case CURLE_FILESIZE_EXCEEDED:
            return OutboundError(.bodyTooLarge, "the response is larger than allowed", cause: cause)
        case CURLE_SSL_CONNECT_ERROR, CURLE_PEER_FAILED_VERIFICATION, CURLE_SSL_CERTPROBLEM, CURLE_SSL_CIPHER,
            CURLE_SSL_CACERT_BADFILE, CURLE_SSL_ENGINE_NOTFOUND, CURLE_SSL_ENGINE_SETFAILED,
            CURLE_SSL_ENGINE_INITFAILED, CURLE_SSL_SHUTDOWN_FAILED, CURLE_SSL_CRL_BADFILE,
            CURLE_SSL_ISSUER_ERROR, CURLE_SSL_PINNEDPUBKEYNOTMATCH, CURLE_SSL_INVALIDCERTSTATUS:
            return OutboundError(.tls, "no trusted TLS connection could be made", cause: cause)
        default:
            return OutboundError(.connection, "the connection failed", cause: cause)
        }
    }
}
