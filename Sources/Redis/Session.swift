import DequeModule

/// One established socket with what was written to it and not yet answered; used by one thread at a time.
final class Session {
    /// A command whose reply is still to come.
    struct Slot {
        /// Nil when nobody waits: the reply is read and thrown away.
        var exchange: Exchange?
        /// Where its last byte lies in the stream: behind `sent`, the server cannot have run it.
        let end: UInt64
        /// How long the server may be silent while this command is the oldest.
        let patience: Duration
    }

    /// More is not encoded before it can be sent, so that commands of a stalled connection stay unwritten.
    private static let unsentMax = 256 << 10

    let transport: Transport
    private(set) var slots: Deque<Slot> = []
    private(set) var sent: UInt64 = 0
    /// When bytes came last, or when the first of the waiting commands was written.
    private(set) var heardAt: ContinuousClock.Instant
    private let reader: ReplyReader
    private var outgoing: [UInt8] = []
    private var outgoingStart = 0
    private var encoded: UInt64 = 0

    init(transport: Transport, replyBytesMax: Int, now: ContinuousClock.Instant) {
        self.transport = transport
        reader = ReplyReader(bytesMax: replyBytesMax)
        heardAt = now
    }

    var hasUnsent: Bool { outgoingStart < outgoing.count || transport.hasUnsent }
    var descriptor: Int32 { transport.socket.descriptor }
    var hasRoom: Bool { outgoing.count - outgoingStart < Self.unsentMax }

    /// When the server has been silent for too long; nil when nothing is asked of it.
    func silenceEnds(atLeast patience: Duration) -> ContinuousClock.Instant? {
        slots.first.map { heardAt + max($0.patience, patience) }
    }

    /// Encodes a command, and remembers that a reply is due.
    func enqueue(
        _ command: RedisCommand, for exchange: Exchange?, patience: Duration, now: ContinuousClock.Instant
    ) {
        if slots.isEmpty { heardAt = now }
        let before = outgoing.count
        command.encode(into: &outgoing)
        encoded += UInt64(outgoing.count - before)
        slots.append(Slot(exchange: exchange, end: encoded, patience: patience))
    }

    /// Sends what the kernel takes; calls `wrote` for each write.
    func flush(wrote: () -> Void) throws(RedisError) {
        while hasUnsent {
            let count = try transport.send(outgoing[outgoingStart...])
            guard count > 0 else { break }
            wrote()
            sent += UInt64(count)
            outgoingStart += count
        }
        guard outgoingStart == outgoing.count else { return }
        outgoing.removeAll(keepingCapacity: outgoing.capacity <= 2 * Self.unsentMax)
        outgoingStart = 0
    }

    /// Reads what has arrived and calls `heard` for each whole reply with the exchange that it belongs to.
    func receive(
        into buffer: inout [UInt8], now: ContinuousClock.Instant,
        heard: (Exchange?, RedisValue) throws(RedisError) -> Void
    ) throws(RedisError) {
        let transfer = try transport.receive(into: &buffer) { bytes in
            heardAt = now
            reader.feed(bytes)
        }
        while let value = try reader.next() {
            guard let slot = slots.popFirst() else {
                if case .error(let text) = value {
                    throw RedisError(.connection, "the server refuses: \(text)")
                }
                throw RedisError(.protocolViolation, "the server answered what nobody asked")
            }
            try heard(slot.exchange, value)
        }
        if case .ended = transfer { throw RedisError(.connection, "the server closed the connection") }
    }

    /// Calls `late` for each exchange whose time is over and forgets it; returns when the next one's is.
    func expire(now: ContinuousClock.Instant, late: (Exchange) -> Void) -> ContinuousClock.Instant? {
        var next: ContinuousClock.Instant?
        for index in slots.indices {
            guard let exchange = slots[index].exchange else { continue }
            if exchange.deadline <= now {
                slots[index].exchange = nil
                late(exchange)
            } else {
                next = earliest(next, exchange.deadline)
            }
        }
        return next
    }
}

/// The earlier of two instants, either of which may be missing.
func earliest(_ first: ContinuousClock.Instant?, _ second: ContinuousClock.Instant?) -> ContinuousClock
    .Instant?
{
    guard let first, let second else { return first ?? second }
    return min(first, second)
}
