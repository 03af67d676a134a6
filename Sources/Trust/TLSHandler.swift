package import NIOCore

/// Fired down the pipeline when a handshake is done, before the first byte of plaintext.
package struct TLSHandshakeCompleted: Sendable {
    /// The other side's certificate, verified now or when a resumed session began; nil at a server that asks
    /// for none.
    package let peerCertificate: Certificate?
    /// The protocol agreed on.
    package let alpn: String?
    /// `TLSv1.3` or `TLSv1.2`.
    package let version: String
    /// Whether an earlier session was resumed: certificates were then not exchanged again, so that whoever
    /// revokes must look at `peerCertificate` here.
    package let resumed: Bool
}

/// TLS in a channel: ciphertext towards the socket, plaintext towards the other handlers.
///
/// `idle` → `handshaking` (channel active; left after at most `handshakeTimeout`) → `open` → `closing`
/// (close_notify is on its way; at most `closeTimeout`) → `closed`. Every failure leads to `closed`: the
/// alert is sent, waiting writes fail, a `TrustError` is fired, the channel is closed. The TLS session is
/// freed on the way into `closed`.
///
/// Writes before the end of the handshake wait, up to `waitingBytesMax`; afterwards flushed writes are joined
/// into records and handed on at once, so the channel's own water marks tell how far the peer is behind.
/// Inbound, nothing is kept: a read gives at most what it brought, and the next is asked for only by the
/// handlers behind or when a record was incomplete.
package final class TLSHandler: ChannelDuplexHandler {
    /// Ciphertext from the socket.
    package typealias InboundIn = ByteBuffer
    /// Plaintext for the handlers behind.
    package typealias InboundOut = ByteBuffer
    /// Plaintext from the handlers behind.
    package typealias OutboundIn = ByteBuffer
    /// Ciphertext for the socket.
    package typealias OutboundOut = ByteBuffer

    /// How much plaintext may wait for the end of the handshake.
    package static let waitingBytesMax = 1 << 20
    /// How long a close waits until close_notify is written.
    package static let closeTimeout = TimeAmount.seconds(5)

    private enum State { case idle, handshaking, open, closing, closed }

    private struct Write {
        var bytes: ByteBuffer
        let promise: EventLoopPromise<Void>?
    }

    private let context: TLSContext
    private let serverName: String?
    private let handshakeTimeout: TimeAmount
    private var state = State.idle
    private var session: TLSSession?
    private var timer: Scheduled<Void>?
    private var writes = MarkedCircularBuffer<Write>(initialCapacity: 4)
    private var waitingBytes = 0
    private var isOutputClosed = false
    private var isReadWanted = false
    private var didDeliver = false

    /// A handler for one channel. A client gives the name (DNS or IP) that the server's certificate must
    /// carry.
    package init(context: TLSContext, serverName: String? = nil, handshakeTimeout: TimeAmount = .seconds(10))
    {
        self.context = context
        self.serverName = serverName
        self.handshakeTimeout = handshakeTimeout
    }

    /// Begins the handshake if the channel is active already.
    package func handlerAdded(context: ChannelHandlerContext) {
        if context.channel.isActive { start(context) }
    }

    /// Frees the session and fails what waits; nothing more is sent.
    package func handlerRemoved(context: ChannelHandlerContext) {
        end(failingWritesWith: ChannelError.ioOnClosedChannel)
    }

    /// Begins the handshake.
    package func channelActive(context: ChannelHandlerContext) {
        start(context)
        context.fireChannelActive()
    }

    /// Fires `truncated` or `handshake` if no close_notify came before, frees the session, fails what waits.
    package func channelInactive(context: ChannelHandlerContext) {
        inputEnded(context)
        end(failingWritesWith: ChannelError.ioOnClosedChannel)
        context.fireChannelInactive()
    }

    /// Judges the end of the peer's half as the end of the connection: without close_notify it is truncated.
    package func userInboundEventTriggered(context: ChannelHandlerContext, event: Any) {
        if let event = event as? ChannelEvent, event == .inputClosed { inputEnded(context) }
        context.fireUserInboundEventTriggered(event)
    }

    // MARK: - From the socket

    /// Takes ciphertext: goes on with the handshake, or fires the plaintext in it, then its error or end.
    package func channelRead(context: ChannelHandlerContext, data: NIOAny) {
        var ciphertext = unwrapInboundIn(data)
        var plaintext = context.channel.allocator.buffer(capacity: ciphertext.readableBytes)
        var end: TLSSession.Progress?
        while end == nil, ciphertext.readableBytes > 0, let session {
            session.feed(&ciphertext)
            if state == .handshaking { handshake(context) }
            guard state == .open || state == .closing else { continue }
            switch session.decrypt(into: &plaintext) {
            case .done, .wantsInput: break
            case .closed: end = .closed
            case .failed(let error): end = .failed(error)
            }
        }
        sendOutput(context)
        if plaintext.readableBytes > 0, state == .open {
            didDeliver = true
            context.fireChannelRead(wrapInboundOut(plaintext))
        }
        switch end {
        case .closed where state == .open: close(context, promise: nil)
        case .failed(let error): fail(context, error)
        default: break
        }
    }

    /// Reads again when what came was part of the handshake or an incomplete record, which nobody behind saw.
    package func channelReadComplete(context: ChannelHandlerContext) {
        context.fireChannelReadComplete()
        if state == .handshaking || (state == .open && isReadWanted && !didDeliver) { context.read() }
        if didDeliver { isReadWanted = false }
        didDeliver = false
    }

    private func inputEnded(_ context: ChannelHandlerContext) {
        switch state {
        case .handshaking:
            fail(context, TrustError(.handshake, "the connection ended in the middle of the handshake"))
        case .open: fail(context, TrustError(.truncated, "the connection ended without close_notify"))
        case .idle, .closing, .closed: break
        }
    }

    // MARK: - The handshake

    private func start(_ context: ChannelHandlerContext) {
        guard state == .idle else { return }
        state = .handshaking
        do {
            session = try TLSSession(context: self.context, serverName: serverName)
        } catch {
            return fail(context, error)
        }
        startTimer(context, handshakeTimeout) { handler, context in
            handler.fail(context, TrustError(.timeout, "the TLS handshake took too long"))
        }
        handshake(context)
        if state == .handshaking { context.read() }
    }

    private func handshake(_ context: ChannelHandlerContext) {
        guard let session else { return }
        let progress = session.handshake()
        sendOutput(context)
        switch progress {
        case .wantsInput: break
        case .closed:
            fail(context, TrustError(.handshake, "the other side closed in the middle of the handshake"))
        case .failed(let error): fail(context, error)
        case .done:
            do {
                let agreed = try session.agreement()
                open(context, agreed)
            } catch {
                fail(context, error)
            }
        }
    }

    private func open(_ context: ChannelHandlerContext, _ agreed: TLSSession.Agreement) {
        timer?.cancel()
        state = .open
        context.fireUserInboundEventTriggered(
            TLSHandshakeCompleted(
                peerCertificate: agreed.peerCertificate, alpn: agreed.alpn, version: agreed.version,
                resumed: agreed.resumed))
        encryptFlushed(context)
    }

    // MARK: - To the socket

    /// Notes that plaintext is wanted, and reads.
    package func read(context: ChannelHandlerContext) {
        isReadWanted = true
        context.read()
    }

    /// Keeps plaintext until the flush; refused after the close, and over `waitingBytesMax` before the end of
    /// the handshake.
    package func write(context: ChannelHandlerContext, data: NIOAny, promise: EventLoopPromise<Void>?) {
        let bytes = unwrapOutboundIn(data)
        guard state != .closing, state != .closed, !isOutputClosed else {
            promise?.fail(ChannelError.ioOnClosedChannel)
            return
        }
        guard state == .open || waitingBytes + bytes.readableBytes <= Self.waitingBytesMax else {
            promise?.fail(
                TrustError(.limit, "at most \(Self.waitingBytesMax) bytes may wait for the TLS handshake"))
            return
        }
        waitingBytes += bytes.readableBytes
        writes.append(Write(bytes: bytes, promise: promise))
        if state == .open, waitingBytes >= Self.waitingBytesMax {
            // Handed on without a flush: from there the channel counts these bytes against its water marks.
            writes.mark()
            encryptFlushed(context, flushing: false)
        }
    }

    /// Encrypts what was written; before the end of the handshake it leaves right after it.
    package func flush(context: ChannelHandlerContext) {
        writes.mark()
        if state == .open { encryptFlushed(context) } else { context.flush() }
    }

    /// Sends close_notify and closes the channel once it is written, at most `closeTimeout` later; mode
    /// `output` only sends it.
    package func close(context: ChannelHandlerContext, mode: CloseMode, promise: EventLoopPromise<Void>?) {
        switch (mode, state) {
        case (.all, .open): close(context, promise: promise)
        case (.output, .open) where !isOutputClosed:
            isOutputClosed = true
            session?.close()
            let written = promise ?? context.eventLoop.makePromise()
            sendOutput(context, promise: written)
        case (.all, .idle), (.all, .handshaking):
            end(failingWritesWith: ChannelError.ioOnClosedChannel)
            context.close(promise: promise)
        case (.all, .closing), (.all, .closed): context.close(promise: promise)
        default: promise?.fail(ChannelError.operationUnsupported)
        }
    }

    /// Joins the flushed writes into records; small ones share a record.
    private func encryptFlushed(_ context: ChannelHandlerContext, flushing: Bool = true) {
        guard writes.hasMark, let session else {
            // What was encrypted without a flush, as a large write is, leaves with this one.
            if flushing { context.flush() }
            return
        }
        var record = context.channel.allocator.buffer(capacity: 0)
        var promises: [EventLoopPromise<Void>] = []
        while state == .open, writes.hasMark, var write = writes.popFirst() {
            waitingBytes -= write.bytes.readableBytes
            if let promise = write.promise { promises.append(promise) }
            if record.readableBytes == 0 { record = write.bytes } else { record.writeBuffer(&write.bytes) }
            if writes.hasMark, record.readableBytes < TLSSession.pieceByteCount { continue }
            var records = context.channel.allocator.buffer(capacity: record.readableBytes + 64)
            let progress = session.encrypt(&record, into: &records)
            context.write(wrapOutboundOut(records), promise: Self.joined(promises, context.eventLoop))
            promises = []
            if case .failed(let error) = progress { return fail(context, error) }
        }
        if flushing { context.flush() }
    }

    private static func joined(_ promises: [EventLoopPromise<Void>], _ loop: any EventLoop)
        -> EventLoopPromise<Void>?
    {
        guard promises.count > 1 else { return promises.first }
        let promise = loop.makePromise(of: Void.self)
        for waiting in promises { promise.futureResult.cascade(to: waiting) }
        return promise
    }

    private func sendOutput(_ context: ChannelHandlerContext, promise: EventLoopPromise<Void>? = nil) {
        var bytes = context.channel.allocator.buffer(capacity: 0)
        session?.drain(into: &bytes)
        if bytes.readableBytes > 0 || promise != nil {
            context.writeAndFlush(wrapOutboundOut(bytes), promise: promise)
        }
    }

    // MARK: - The end

    /// Sends close_notify and closes the channel once it is written, or after `closeTimeout`.
    private func close(_ context: ChannelHandlerContext, promise: EventLoopPromise<Void>?) {
        state = .closing
        session?.close()
        startTimer(context, Self.closeTimeout) { _, context in context.close(promise: nil) }
        let written = context.eventLoop.makePromise(of: Void.self)
        written.futureResult.assumeIsolated().whenComplete { _ in
            self.end(failingWritesWith: ChannelError.ioOnClosedChannel)
            // A channel that is closed by now, by the peer or the time limit, is what the caller asked for.
            let closed = context.eventLoop.makePromise(of: Void.self)
            closed.futureResult.whenComplete { _ in promise?.succeed() }
            context.close(promise: closed)
        }
        sendOutput(context, promise: written)
    }

    private func fail(_ context: ChannelHandlerContext, _ error: TrustError) {
        guard state != .closed else { return }
        sendOutput(context)
        end(failingWritesWith: error)
        context.fireErrorCaught(error)
        context.close(promise: nil)
    }

    private func end(failingWritesWith error: any Error) {
        timer?.cancel()
        timer = nil
        if state == .open || state == .closing { session?.remember() }
        state = .closed
        session = nil
        waitingBytes = 0
        while let write = writes.popFirst() { write.promise?.fail(error) }
    }

    private func startTimer(
        _ context: ChannelHandlerContext, _ delay: TimeAmount,
        _ fire: @escaping (TLSHandler, ChannelHandlerContext) -> Void
    ) {
        timer?.cancel()
        timer = context.eventLoop.assumeIsolated().scheduleTask(in: delay) { fire(self, context) }
    }
}
