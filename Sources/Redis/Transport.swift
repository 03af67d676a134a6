import Trust

/// What a session sends to and receives from: a socket, in clear or behind TLS. Used by one thread at a time.
final class Transport {
    let socket: Socket
    private let tls: TLSClientSession?
    /// Encrypted and not sent.
    private var records: [UInt8] = []
    private var recordsStart = 0
    private var plaintext: [UInt8] = []
    private var hasReceived = false

    /// A transport over a connected socket; with TLS its handshake is still to be done.
    init(socket: Socket, tls: TLSClientSession?) {
        self.socket = socket
        self.tls = tls
    }

    /// Whether bytes wait that were taken and not sent.
    var hasUnsent: Bool { recordsStart < records.count }

    /// Goes on with the handshake, with what has arrived if `isReadable`; true when it is done.
    func shakeHands(isReadable: Bool, buffer: inout [UInt8]) throws(RedisError) -> Bool {
        guard let tls else { return true }
        if isReadable {
            switch try socket.receive(into: &buffer) {
            case .bytes(let count): tls.feed(buffer[..<count])
            case .wouldBlock: break
            case .ended:
                throw RedisError(.connection, "the server closed the connection during the TLS handshake")
            }
        }
        let isDone = try told { () throws(TrustError) in try tls.shakeHands() }
        try flushRecords()
        return isDone
    }

    /// Sends what is taken now; 0 when nothing more is. Behind TLS a piece counts when it is encrypted, and
    /// the next is only when that one has left.
    func send(_ bytes: ArraySlice<UInt8>) throws(RedisError) -> Int {
        guard let tls else {
            guard case .bytes(let count) = try socket.send(bytes) else { return 0 }
            return count
        }
        try flushRecords()
        guard !hasUnsent, !bytes.isEmpty else { return 0 }
        let piece = bytes.prefix(Self.pieceByteCount)
        try told { () throws(TrustError) in try tls.encrypt(piece) }
        try flushRecords()
        return piece.count
    }

    /// Receives what has arrived and hands it out in clear.
    func receive(
        into buffer: inout [UInt8], deliver: (ArraySlice<UInt8>) -> Void
    ) throws(RedisError) -> Socket.Transfer {
        let transfer: Socket.Transfer
        do throws(RedisError) {
            transfer = try socket.receive(into: &buffer)
            if case .ended = transfer { throw RedisError(.connection, "the server closed the connection") }
        } catch {
            throw hasReceived ? error : error.beforeAnyAnswer(inClear: tls == nil)
        }
        guard case .bytes(let count) = transfer else { return transfer }
        hasReceived = true
        guard let tls else {
            deliver(buffer[..<count])
            return transfer
        }
        tls.feed(buffer[..<count])
        plaintext.removeAll(keepingCapacity: true)
        let goesOn = try told { () throws(TrustError) in try tls.decrypt(into: &plaintext) }
        try flushRecords()
        deliver(plaintext[...])
        return goesOn ? transfer : .ended
    }

    private static let pieceByteCount = 16 << 10

    /// Takes a step of TLS; when it fails, the server is told by an alert.
    private func told<Value>(_ step: () throws(TrustError) -> Value) throws(RedisError) -> Value {
        do throws(TrustError) {
            return try step()
        } catch {
            try? flushRecords()  // a courtesy: the failure is thrown whether the alert arrives or not
            throw RedisError(tls: error)
        }
    }

    private func flushRecords() throws(RedisError) {
        guard let tls else { return }
        if !hasUnsent {
            records = tls.takeRecords()
            recordsStart = 0
        } else {
            records.append(contentsOf: tls.takeRecords())
        }
        do throws(RedisError) {
            while hasUnsent {
                guard case .bytes(let count) = try socket.send(records[recordsStart...]) else { return }
                recordsStart += count
            }
        } catch {
            throw hasReceived ? error : error.beforeAnyAnswer(inClear: false)
        }
    }
}

extension RedisError {
    /// The end of a connection on which nothing was ever heard, as it looks when TLS is wanted, or another
    /// certificate (the alert that says so is lost if the server closes while bytes of ours are unread).
    fileprivate func beforeAnyAnswer(inClear: Bool) -> RedisError {
        let reason = inClear ? "wants TLS (rediss://)" : "does not accept our certificate, or wants one,"
        return RedisError(code, "\(message), before any answer; a server that \(reason) does so")
    }

    /// What a failure of TLS means for a connection.
    init(tls error: TrustError) {
        switch error.code {
        case .timeout, .io, .truncated: self.init(.connection, error.message)
        default: self.init(.untrusted, error.message)
        }
    }
}
