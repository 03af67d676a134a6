import NIOCore

/// One client's TLS connection between two byte streams, for an owner that has the socket and waits for it by
/// itself.
///
/// What came from the wire goes in by `feed`, what is to be sent comes out by `takeRecords`; nothing here
/// blocks or knows a socket. For one thread at a time, therefore not Sendable.
package final class TLSClientSession {
    private let session: TLSSession
    private var input = ByteBuffer()
    private var records = ByteBuffer()

    /// A session before its handshake; `serverName` (DNS or IP) is what the server's certificate must carry.
    package init(context: TLSContext, serverName: String) throws(TrustError) {
        session = try TLSSession(context: context, serverName: serverName)
    }

    /// Takes bytes that came from the wire.
    package func feed(_ bytes: ArraySlice<UInt8>) {
        input.clear()
        input.writeBytes(bytes)
        while input.readableBytes > 0 { session.feed(&input) }
    }

    /// What is to be sent now, also after a failure: the alert that says why.
    package func takeRecords() -> [UInt8] {
        session.drain(into: &records)
        defer { records.clear() }
        return Array(records.readableBytesView)
    }

    /// Goes on with the handshake; false while it waits for bytes of the server.
    package func shakeHands() throws(TrustError) -> Bool {
        switch session.handshake() {
        case .done:
            _ = try session.agreement()
            return true
        case .wantsInput: return false
        case .closed: throw TrustError(.handshake, "the server ended the TLS handshake")
        case .failed(let error): throw error
        }
    }

    /// Appends all that can be decrypted now; false once the server has said that nothing more comes.
    package func decrypt(into bytes: inout [UInt8]) throws(TrustError) -> Bool {
        var plaintext = ByteBuffer()
        let progress = session.decrypt(into: &plaintext)
        bytes.append(contentsOf: plaintext.readableBytesView)
        switch progress {
        case .done, .wantsInput: return true
        case .closed: return false
        case .failed(let error): throw error
        }
    }

    /// Encrypts all of `bytes`; they come out by `takeRecords`.
    package func encrypt(_ bytes: ArraySlice<UInt8>) throws(TrustError) {
        var plaintext = ByteBuffer(bytes: bytes)
        if case .failed(let error) = session.encrypt(&plaintext, into: &records) { throw error }
    }
}
