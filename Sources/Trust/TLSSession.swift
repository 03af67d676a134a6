import COpenSSL
import NIOCore
import Synchronization

/// One TLS connection between two memory buffers: bytes of the wire go in by `feed` and come out by `drain`;
/// nothing here knows a socket. Confined to one thread or event loop; freed with its last reference.
@safe final class TLSSession {
    /// How far a step came.
    enum Progress {
        case done
        case wantsInput
        case closed
        case failed(TrustError)
    }

    /// What both sides agreed on.
    struct Agreement {
        let peerCertificate: Certificate?
        let alpn: String?
        let version: String
        let resumed: Bool
    }

    /// The largest piece that is encrypted into one record or fed at once, so that the buffers between stay
    /// small.
    static let pieceByteCount = 16 << 10

    private let context: TLSContext
    private let serverName: String?
    private let ssl: Owned
    private let input: OpaquePointer
    private let output: OpaquePointer
    private var isFinished = false

    /// A session before its handshake. A client needs the name (DNS or IP) that the server's certificate must
    /// carry.
    init(context: TLSContext, serverName: String?) throws(TrustError) {
        self.context = context
        self.serverName = serverName
        ssl = try unsafe Owned(SSL_new(context.owned.pointer), SSL_free, "make a TLS session")
        guard let input = unsafe BIO_new(BIO_s_mem()) else {
            throw TrustError.openSSL(.library, "cannot make a buffer")
        }
        guard let output = unsafe BIO_new(BIO_s_mem()) else {
            unsafe BIO_free_all(input)
            throw TrustError.openSSL(.library, "cannot make a buffer")
        }
        unsafe self.input = input
        unsafe self.output = output
        unsafe SSL_set_bio(ssl.pointer, input, output)
        context.sessions.add(1, ordering: .relaxed)
        let parameters = unsafe SSL_get0_param(ssl.pointer)
        unsafe X509_VERIFY_PARAM_set_time(parameters, Int(context.now()))
        switch context.side {
        case .server: unsafe SSL_set_accept_state(ssl.pointer)
        case .client: try connect(to: serverName)
        }
    }

    deinit { context.sessions.subtract(1, ordering: .relaxed) }

    private func connect(to serverName: String?) throws(TrustError) {
        guard let serverName, !serverName.isEmpty, serverName.utf8.allSatisfy({ (0x21...0x7E).contains($0) })
        else {
            throw TrustError(.handshake, "a client needs the ASCII name of its server")
        }
        let parameters = unsafe SSL_get0_param(ssl.pointer)
        if unsafe X509_VERIFY_PARAM_set1_ip_asc(parameters, serverName) != 1 {
            ERR_clear_error()
            unsafe SSL_set_hostflags(
                ssl.pointer,
                UInt32(X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS | X509_CHECK_FLAG_NEVER_CHECK_SUBJECT))
            try check(unsafe SSL_set1_host(ssl.pointer, serverName), "set the server's name", as: .handshake)
            try check(
                unsafe crmm_SSL_set_tlsext_host_name(ssl.pointer, serverName), "send the server's name",
                as: .handshake)
        }
        if let session = context.takeSession(for: serverName) {
            try check(unsafe SSL_set_session(ssl.pointer, session.pointer), "offer a session", as: .handshake)
        }
        unsafe SSL_set_connect_state(ssl.pointer)
    }

    /// Takes up to `pieceByteCount` bytes that came from the wire.
    func feed(_ bytes: inout ByteBuffer) {
        let count = min(bytes.readableBytes, Self.pieceByteCount)
        let written = unsafe bytes.withUnsafeReadableBytes {
            unsafe BIO_write(input, $0.baseAddress, Int32(count))
        }
        precondition(Int(written) == count, "a memory buffer is out of memory")
        bytes.moveReaderIndex(forwardBy: count)
    }

    /// Appends what is to be sent to `bytes`.
    func drain(into bytes: inout ByteBuffer) {
        let count = Int(unsafe crmm_BIO_pending(output))
        guard count > 0 else { return }
        unsafe bytes.writeWithUnsafeMutableBytes(minimumWritableBytes: count) { space in
            unsafe Int(max(0, BIO_read(output, space.baseAddress, Int32(count))))
        }
    }

    /// Goes on with the handshake.
    func handshake() -> Progress {
        ERR_clear_error()
        let progress = unsafe progress(SSL_do_handshake(ssl.pointer))
        if case .done = progress { isFinished = true }
        return progress
    }

    /// Appends up to `max` decrypted bytes; `wantsInput` when all of the input is used up, `closed` at
    /// close_notify.
    func decrypt(into bytes: inout ByteBuffer, max: Int = .max) -> Progress {
        var left = max
        while left > 0 {
            ERR_clear_error()
            var result: Int32 = 0
            if bytes.writableBytes == 0 { bytes.reserveCapacity(minimumWritableBytes: Self.pieceByteCount) }
            let size = min(left, bytes.writableBytes)
            unsafe bytes.writeWithUnsafeMutableBytes(minimumWritableBytes: size) { space in
                result = unsafe SSL_read(ssl.pointer, space.baseAddress, Int32(size))
                return Int(Swift.max(0, result))
            }
            if result <= 0 { return progress(result) }
            left -= Int(result)
        }
        return .done
    }

    /// Encrypts all of `bytes`, a record a piece, and appends the records to `records`.
    func encrypt(_ bytes: inout ByteBuffer, into records: inout ByteBuffer) -> Progress {
        while bytes.readableBytes > 0 {
            ERR_clear_error()
            let count = min(bytes.readableBytes, Self.pieceByteCount)
            let result = unsafe bytes.withUnsafeReadableBytes {
                unsafe SSL_write(ssl.pointer, $0.baseAddress, Int32(count))
            }
            if result <= 0 { return progress(result) }
            bytes.moveReaderIndex(forwardBy: Int(result))
            drain(into: &records)
        }
        return .done
    }

    /// Writes close_notify, once.
    func close() {
        ERR_clear_error()
        _ = unsafe SSL_shutdown(ssl.pointer)
        ERR_clear_error()
    }

    /// What was agreed on; throws when the other side's certificate, perhaps of a resumed session, is missing
    /// or not valid now.
    func agreement() throws(TrustError) -> Agreement {
        var peer: Certificate?
        if let x509 = unsafe SSL_get1_peer_certificate(ssl.pointer) {
            peer = try Certificate(unsafe Owned(x509, X509_free, "read a certificate"))
        }
        if context.side != .server(asksCertificate: false) {
            guard let peer, unsafe SSL_get_verify_result(ssl.pointer) == Int(X509_V_OK) else {
                throw TrustError(.refusedCertificate, "the other side showed no valid certificate")
            }
            try peer.checkValidity(at: context.now())
        }
        var name: UnsafePointer<UInt8>?
        var count: UInt32 = 0
        unsafe SSL_get0_alpn_selected(ssl.pointer, &name, &count)
        let alpn = unsafe UnsafeBufferPointer(start: name, count: Int(count))
        return unsafe Agreement(
            peerCertificate: peer, alpn: alpn.isEmpty ? nil : String(decoding: alpn, as: UTF8.self),
            version: String(cString: SSL_get_version(ssl.pointer)),
            resumed: SSL_session_reused(ssl.pointer) == 1)
    }

    /// At the end of a client's connection: keeps its newest session for the next one.
    func remember() {
        guard context.side == .client, let serverName,
            // Without a session there is nothing to keep, and the next handshake is a full one.
            let session = try? unsafe Owned(
                SSL_get1_session(ssl.pointer), SSL_SESSION_free, "keep a session"),
            unsafe SSL_SESSION_is_resumable(session.pointer) == 1
        else { return }
        // The library takes the end of a session without close_notify, as when a server was killed, for a
        // reason not to resume it; TLS since 1.1 does not, and then all clients come back at once.
        unsafe SSL_set_shutdown(ssl.pointer, SSL_SENT_SHUTDOWN | SSL_RECEIVED_SHUTDOWN)
        context.remember(session, for: serverName)
    }

    private func progress(_ result: Int32) -> Progress {
        if result > 0 { return .done }
        return switch unsafe SSL_get_error(ssl.pointer, result) {
        case SSL_ERROR_WANT_READ: .wantsInput
        case SSL_ERROR_ZERO_RETURN: .closed
        default: .failed(failure())
        }
    }

    private func failure() -> TrustError {
        let queue = OpenSSLErrors.drain()
        var text = queue.map(\.text).joined(separator: "; ")
        let verdict = unsafe SSL_get_verify_result(ssl.pointer)
        if verdict != Int(X509_V_OK), let reason = unsafe X509_verify_cert_error_string(verdict) {
            unsafe text += " (\(String(cString: reason)))"
            return TrustError(.refusedCertificate, "the other side's certificate is not accepted: \(text)")
        }
        if queue.contains(where: { Self.certificateReasons.contains($0.reason) }) {
            return TrustError(.refusedCertificate, "a certificate was refused or missing: \(text)")
        }
        return isFinished
            ? TrustError(.malformed, "the TLS session broke: \(text)")
            : TrustError(.handshake, "the TLS handshake failed: \(text)")
    }

    /// Alerts about certificates (the library's reason is 1000 + alert), and its own "peer did not return a
    /// certificate".
    private static let certificateReasons: Set<Int> = Set(
        [42, 43, 44, 45, 46, 48, 116].map { 1000 + $0 } + [199])
}
