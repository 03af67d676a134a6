/// Sends HTTP requests to the outside and reuses their connections.
///
/// All transfers of a client share one thread that runs libcurl; callers only `await`. No redirects are
/// followed, no proxy, cookie jar or netrc is used, and only HTTP/1.1 is spoken. Dropping or closing the
/// client ends what is under way with `OutboundError.Code.cancelled`.
package final class HTTPClient: Sendable {
    /// Which hosts a client may talk to.
    package enum Policy: Sendable {
        /// A host that the operator configured: any address by `https`, only loopback by `http`.
        case `operator`
        /// A host that a tenant supplied: `https` only, and only addresses that `AddressGuard` lets through.
        case guarded
        /// As `guarded`, with `http` allowed.
        case guardedAllowingHTTP
        /// As `guarded`; besides, addresses of these networks may be reached, by `http` too.
        case guardedExcept(AllowedNetworks)

        var schemes: String {
            switch self {
            case .guarded: "https"
            case .guardedExcept(let networks): networks.isEmpty ? "https" : "http,https"
            case .operator, .guardedAllowingHTTP: "http,https"
            }
        }
    }

    private let loop: TransferLoop
    private let policy: Policy
    private let ownAddresses: [[UInt8]]

    /// A client with its own thread; `ownAddresses` (4 or 16 bytes each) are this installation's listeners,
    /// which a guarded client refuses besides what `AddressGuard` refuses.
    package init(policy: Policy, ownAddresses: [[UInt8]] = []) {
        self.policy = policy
        self.ownAddresses = ownAddresses
        loop = TransferLoop()
    }

    deinit { loop.close() }

    /// Sends the request and collects the response, whatever its status.
    ///
    /// Cancelling the task aborts the transfer. Throws `OutboundError`.
    package func send(_ request: HTTPRequest) async throws -> HTTPResponse {
        try request.validate()
        let id = loop.nextID()
        return try await withTaskCancellationHandler {
            try await withCheckedThrowingContinuation { continuation in
                let transfer = Transfer(
                    id: id, request: request, policy: policy, ownAddresses: ownAddresses,
                    delivery: .whole(continuation))
                loop.submit(.start(transfer))
                // A cancellation before this point found nothing to cancel.
                if Task.isCancelled { loop.submit(.cancel(id)) }
            }
        } onCancel: {
            loop.submit(.cancel(id))
        }
    }

    /// Sends the request and hands out the body as it arrives, for server-sent events.
    ///
    /// The transfer begins at once. A reader that does not keep up slows the sender down. A status other than
    /// 2xx ends the stream with `OutboundError.Code.status`. Dropping the stream or cancelling the reading
    /// task aborts the transfer. One reader only.
    package func stream(_ request: HTTPRequest) -> AsyncThrowingStream<[UInt8], any Error> {
        let buffer = ChunkBuffer(bytesMax: request.responseBytesMax)
        let id = loop.nextID()
        do {
            try request.validate()
            let transfer = Transfer(
                id: id, request: request, policy: policy, ownAddresses: ownAddresses,
                delivery: .chunks(buffer))
            loop.submit(.start(transfer))
        } catch {
            buffer.finish(error)
        }
        let reader = StreamReader(client: self, id: id, buffer: buffer)
        return AsyncThrowingStream { try await reader.next() }
    }

    /// Ends all transfers and the thread; later requests are refused.
    package func close() {
        loop.close()
    }

    /// What one stream's reader holds; its end aborts the transfer.
    private final class StreamReader: Sendable {
        private let client: HTTPClient
        private let id: UInt64
        private let buffer: ChunkBuffer

        init(client: HTTPClient, id: UInt64, buffer: ChunkBuffer) {
            self.client = client
            self.id = id
            self.buffer = buffer
        }

        deinit { client.loop.submit(.cancel(id)) }

        func next() async throws -> [UInt8]? {
            try await withTaskCancellationHandler {
                try await buffer.next { client.loop.submit(.resume(id)) }
            } onCancel: {
                client.loop.submit(.cancel(id))
            }
        }
    }
}
