import CCurl
import Glibc

/// One request under way: the owner of its easy handle, confined to the transfer thread after `start`.
@safe final class Transfer: @unchecked Sendable {
    /// Who gets the response.
    enum Delivery {
        case whole(CheckedContinuation<HTTPResponse, any Error>)
        case chunks(ChunkBuffer)
    }

    let id: UInt64
    /// For a stream, when it has been silent for too long; nil while it is paused or has no such limit.
    private(set) var silenceDeadline: ContinuousClock.Instant?

    private let request: HTTPRequest
    private let policy: HTTPClient.Policy
    private let ownAddresses: [[UInt8]]
    private let delivery: Delivery
    private var easy: UnsafeMutableRawPointer?
    private var headerList: UnsafeMutablePointer<curl_slist>?
    private let errorText: UnsafeMutablePointer<CChar>
    private var head = ResponseHead()
    private var body: [UInt8] = []
    private var refusal: OutboundError?

    init(
        id: UInt64, request: HTTPRequest, policy: HTTPClient.Policy, ownAddresses: [[UInt8]],
        delivery: Delivery
    ) {
        self.id = id
        self.request = request
        self.policy = policy
        self.ownAddresses = ownAddresses
        self.delivery = delivery
        unsafe errorText = .allocate(capacity: Int(CURL_ERROR_SIZE))
        unsafe errorText.initialize(repeating: 0, count: Int(CURL_ERROR_SIZE))
    }

    deinit {
        if let easy = unsafe easy { unsafe curl_easy_cleanup(easy) }
        unsafe curl_slist_free_all(headerList)
        unsafe errorText.deallocate()
    }

    /// Makes the easy handle with all its options; the caller adds it to the multi handle.
    func prepare() throws(OutboundError) -> UnsafeMutableRawPointer {
        guard let easy = unsafe curl_easy_init() else {
            throw OutboundError(.connection, "no memory for a request")
        }
        unsafe self.easy = easy
        try setText(CURLOPT_URL, request.url)
        try setText(CURLOPT_PROTOCOLS_STR, policy.schemes)
        try setText(CURLOPT_PROXY, "")
        try setText(CURLOPT_NOPROXY, "*")
        try setLong(CURLOPT_DISALLOW_USERNAME_IN_URL, 1)
        try setLong(CURLOPT_FOLLOWLOCATION, 0)
        try setLong(CURLOPT_NOSIGNAL, 1)
        try setLong(CURLOPT_HTTP_VERSION, Int(CURL_HTTP_VERSION_1_1))
        try setLong(CURLOPT_SSLVERSION, Int(CURL_SSLVERSION_TLSv1_2))
        try setLong(CURLOPT_TCP_KEEPALIVE, 1)
        if let path = request.certificateAuthorityPath {
            try setText(CURLOPT_CAINFO, path)
            // CURLOPT_CAPATH(3): with OpenSSL both are searched, so the system's directory must be taken
            // away.
            try check(unsafe crmm_curl_set_text(easy, CURLOPT_CAPATH, nil))
        }
        try setTimeouts()
        try setBody()
        try setHeaders()
        try unsafe setCallbacks(easy)
        return unsafe easy
    }

    /// Restarts a paused stream; libcurl may call back with the kept chunk at once.
    func resume() {
        noteActivity()
        if let easy = unsafe easy { unsafe curl_easy_pause(easy, CURLPAUSE_CONT) }
    }

    /// The easy handle, when `prepare` made one.
    var handle: UnsafeMutableRawPointer? { unsafe easy }

    /// Ends the request with what libcurl said.
    func finish(_ result: CURLcode) {
        guard result == CURLE_OK else {
            let text = unsafe String(cString: errorText)
            return fail(refusal ?? .transfer(result, detail: text))
        }
        let response = HTTPResponse(status: head.status, headers: head.headers, body: body)
        switch delivery {
        case .whole(let continuation):
            continuation.resume(returning: response)
        case .chunks(let buffer):
            guard isAccepted else {
                return buffer.finish(
                    OutboundError(.status, "the server answered \(head.status)", response: response))
            }
            buffer.finish(nil)
        }
    }

    /// Ends the request with an error. `finish` or `fail` is called exactly once.
    func fail(_ error: OutboundError) {
        switch delivery {
        case .whole(let continuation): continuation.resume(throwing: error)
        case .chunks(let buffer): buffer.finish(error)
        }
    }

    private var isAccepted: Bool { 200...299 ~= head.status }

    private func noteActivity() {
        if case .chunks = delivery { silenceDeadline = .now.advanced(by: request.timeout) }
    }
}

// MARK: Options

extension Transfer {
    private func check(_ result: CURLcode) throws(OutboundError) {
        guard result == CURLE_OK else { throw .transfer(result, detail: "") }
    }

    private func setLong(_ option: CURLoption, _ value: Int) throws(OutboundError) {
        try check(unsafe crmm_curl_set_long(easy, option, value))
    }

    private func setText(_ option: CURLoption, _ value: String) throws(OutboundError) {
        try check(unsafe crmm_curl_set_text(easy, option, value))
    }

    private func setTimeouts() throws(OutboundError) {
        let (seconds, attoseconds) = request.timeout.components
        let capped = min(max(seconds, 0), 1_000_000)
        let milliseconds = max(1, Int(capped) * 1000 + Int(attoseconds / 1_000_000_000_000_000))
        switch delivery {
        case .whole:
            try setLong(CURLOPT_TIMEOUT_MS, milliseconds)
            try check(
                unsafe crmm_curl_set_offset(
                    easy, CURLOPT_MAXFILESIZE_LARGE, curl_off_t(max(1, request.responseBytesMax))))
        case .chunks:
            noteActivity()
        }
        try setLong(CURLOPT_CONNECTTIMEOUT_MS, milliseconds)
    }

    private func setBody() throws(OutboundError) {
        let hasBodyByMethod = ["POST", "PUT", "PATCH"].contains(request.method)
        if request.method == "HEAD" {
            try setLong(CURLOPT_NOBODY, 1)
        } else if hasBodyByMethod || !request.body.isEmpty {
            // CURLOPT_COPYPOSTFIELDS(3): the size has to be set before the copy is made.
            let size = curl_off_t(request.body.count)
            try check(unsafe crmm_curl_set_offset(easy, CURLOPT_POSTFIELDSIZE_LARGE, size))
            let body = request.body.isEmpty ? [0] : request.body
            try check(
                unsafe body.withUnsafeBufferPointer { bytes in
                    unsafe crmm_curl_set_pointer(
                        easy, CURLOPT_COPYPOSTFIELDS, UnsafeMutableRawPointer(mutating: bytes.baseAddress))
                })
            try setText(CURLOPT_CUSTOMREQUEST, request.method)
        } else {
            try setText(CURLOPT_CUSTOMREQUEST, request.method)
        }
    }

    private func setHeaders() throws(OutboundError) {
        // libcurl adds a form's content type and waits a second for "100 Continue" unless told otherwise.
        var lines = ["Expect:"]
        if !request.headers.contains(where: { $0.0.lowercased() == "content-type" }) {
            lines.append("Content-Type:")
        }
        lines += request.headers.map { name, value in value.isEmpty ? "\(name);" : "\(name): \(value)" }
        for line in lines {
            guard let list = unsafe curl_slist_append(headerList, line) else {
                throw OutboundError(.connection, "no memory for a request")
            }
            unsafe headerList = list
        }
        try check(unsafe crmm_curl_set_headers(easy, headerList))
    }

    private func setCallbacks(_ easy: UnsafeMutableRawPointer) throws(OutboundError) {
        let context = unsafe Unmanaged.passUnretained(self).toOpaque()
        try check(unsafe crmm_curl_set_pointer(easy, CURLOPT_ERRORBUFFER, errorText))
        try check(
            unsafe crmm_curl_set_header_callback(
                easy,
                { bytes, size, count, context in
                    unsafe Transfer.at(context).takeHead(Transfer.copy(bytes, size * count))
                }, context))
        try check(
            unsafe crmm_curl_set_body_callback(
                easy,
                { bytes, size, count, context in
                    unsafe Transfer.at(context).takeBody(Transfer.copy(bytes, size * count))
                }, context))
        try check(
            unsafe crmm_curl_set_socket_callback(
                easy,
                { context, _, address in unsafe Transfer.at(context).openSocket(address) }, context))
    }

    private static func at(_ context: UnsafeMutableRawPointer?) -> Transfer {
        unsafe Unmanaged<Transfer>.fromOpaque(context!).takeUnretainedValue()
    }

    private static func copy(_ bytes: UnsafeMutablePointer<CChar>?, _ count: Int) -> [UInt8] {
        unsafe Array(UnsafeRawBufferPointer(start: bytes, count: count))
    }
}

// MARK: What libcurl calls, on the transfer thread

extension Transfer {
    /// Any count other than the one given makes libcurl abort.
    private static let abort = Int(CURL_WRITEFUNC_ERROR)

    private func takeHead(_ line: [UInt8]) -> Int {
        noteActivity()
        guard head.take(line: line) else {
            refusal = OutboundError(
                .bodyTooLarge, "the response's header is larger than \(ResponseHead.bytesMax) bytes")
            return Self.abort
        }
        return line.count
    }

    private func takeBody(_ chunk: [UInt8]) -> Int {
        noteActivity()
        if case .chunks(let buffer) = delivery, isAccepted {
            if buffer.offer(chunk) { return chunk.count }
            silenceDeadline = nil
            return Int(CURL_WRITEFUNC_PAUSE)
        }
        guard body.count + chunk.count <= request.responseBytesMax else {
            refusal = OutboundError(
                .bodyTooLarge, "the response is larger than \(request.responseBytesMax) bytes")
            return Self.abort
        }
        body += chunk
        return chunk.count
    }

    /// Judges the final address and opens the socket for it, or not.
    private func openSocket(_ target: UnsafeMutablePointer<curl_sockaddr>?) -> curl_socket_t {
        guard let target = unsafe target else { return CURL_SOCKET_BAD }
        if let reason = unsafe refusalReason(
            family: target.pointee.family, address: Self.ipAddress(of: target))
        {
            refusal = OutboundError(.address, "the host has an address that is not allowed", cause: reason)
            return CURL_SOCKET_BAD
        }
        let type = unsafe target.pointee.socktype | Int32(SOCK_CLOEXEC.rawValue)
        return unsafe socket(target.pointee.family, type, target.pointee.protocol)
    }

    private func refusalReason(family: Int32, address: [UInt8]?) -> String? {
        guard let address else { return "address family \(family)" }
        let isPlain = !request.url.lowercased().hasPrefix("https:")
        switch policy {
        case .operator:
            return isPlain && !AddressGuard.isLoopback(address) ? "plain HTTP is for loopback only" : nil
        case .guarded, .guardedAllowingHTTP:
            if ownAddresses.contains(address) { return "a listener of this installation" }
            return AddressGuard.refusal(for: address)
        case .guardedExcept(let networks):
            if networks.contains(address) { return nil }
            if isPlain { return "plain HTTP is for the networks that are allowed by setting" }
            if ownAddresses.contains(address) { return "a listener of this installation" }
            return AddressGuard.refusal(for: address)
        }
    }

    /// The bytes of an IP address. libcurl's storage behind `addr` is large enough for `addrlen` bytes,
    /// although the field is declared as the shorter `sockaddr` (CURLOPT_OPENSOCKETFUNCTION(3)).
    private static func ipAddress(of target: UnsafeMutablePointer<curl_sockaddr>) -> [UInt8]? {
        let offset = MemoryLayout<curl_sockaddr>.offset(of: \.addr)!
        let storage = unsafe UnsafeRawPointer(target) + offset
        switch unsafe target.pointee.family {
        case AF_INET:
            let address = unsafe storage.loadUnaligned(as: sockaddr_in.self).sin_addr
            return unsafe withUnsafeBytes(of: address) { unsafe Array($0) }
        case AF_INET6:
            let address = unsafe storage.loadUnaligned(as: sockaddr_in6.self).sin6_addr
            return unsafe withUnsafeBytes(of: address) { unsafe Array($0) }
        default:
            return nil
        }
    }
}
