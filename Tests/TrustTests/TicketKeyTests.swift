import NIOCore
import NIOEmbedded
import Testing
import Trust

/// Keys of tickets that change each hour, in real handshakes on a clock that the test moves.
@Suite struct TicketKeyTests {
    private let authorities = TestAuthorities.shared
    private let period = TicketKeys.periodSeconds
    /// The next whole hour: certificates do not hold yet in the last one.
    private let hour: Int64
    private let clock: TestClock
    private let client: TLSContext

    init() throws {
        let now = systemSeconds()
        hour = now - now % TicketKeys.periodSeconds + TicketKeys.periodSeconds
        clock = TestClock(hour)
        client = try authorities.clientContext(identity: authorities.device)
    }

    private func gateway(_ keys: TicketKeys) throws -> TLSContext {
        try authorities.serverContext(clientCA: authorities.deviceCA, tickets: keys, now: clock.now)
    }

    /// Connects and leaves; whether the server took the client's ticket.
    private func resumed(at server: TLSContext) throws -> Bool {
        let pair = try TLSPair(server: server, client: client)
        try pair.connect()
        #expect(pair.isOpen, "\(pair.serverSide.codes)")
        pair.client.close(promise: nil)
        try pair.exchange()
        return try #require(pair.serverSide.handshakes.first).resumed
    }

    @Test("a session is resumed across a change of keys, at whichever process knows them")
    func acrossOne() throws {
        let keys = TicketKeys(at: clock.now())
        clock.advance(by: period - 10)
        #expect(try !resumed(at: gateway(keys)))
        clock.advance(by: 20)
        let renewed = keys.renewed(at: clock.now())
        #expect(renewed != keys)
        #expect(try resumed(at: gateway(TicketKeys(bytes: renewed.bytes))))
        // Its new ticket is sealed with the new key, which a process that has not read again knows too.
        #expect(try resumed(at: gateway(keys)))
        #expect(try resumed(at: gateway(renewed)))
    }

    @Test(
        "a ticket two changes old costs a full handshake, also at a process that has not read again",
        arguments: [true, false])
    func acrossTwo(readsAgain: Bool) throws {
        let keys = TicketKeys(at: clock.now())
        clock.advance(by: 10)
        #expect(try !resumed(at: gateway(keys)))
        clock.advance(by: 2 * period)
        guard readsAgain else {
            #expect(try !resumed(at: gateway(keys)))
            return
        }
        let renewed = keys.renewed(at: hour + period).renewed(at: clock.now())
        #expect(try !resumed(at: gateway(renewed)))
        #expect(try resumed(at: gateway(renewed)))
    }

    @Test("keys that were not read for hours serve on, and are replaced whole")
    func stale() throws {
        let keys = TicketKeys(at: clock.now())
        clock.advance(by: 24 * period)
        #expect(try !resumed(at: gateway(keys)))
        let renewed = keys.renewed(at: clock.now())
        #expect(renewed.bytes.count == 2 * TicketKeys.keyByteCount)
        #expect(try !resumed(at: gateway(renewed)))
        #expect(try resumed(at: gateway(renewed)))
    }

    @Test("a clock that is behind the keys finds one that seals and opens")
    func behind() throws {
        let keys = TicketKeys(at: clock.now())
        clock.advance(by: -10)
        #expect(try !resumed(at: gateway(keys)))
        #expect(try resumed(at: gateway(keys)))
    }

    @Test("keys change once an hour; the next one is known an hour before, the one before stays an hour")
    func renewal() throws {
        let first = TicketKeys(at: hour)
        #expect(first.renewed(at: hour + period - 1) == first)
        let second = first.renewed(at: hour + period)
        #expect(second.renewed(at: hour + 2 * period - 1) == second)
        let third = second.renewed(at: hour + 2 * period)
        let size = TicketKeys.keyByteCount
        #expect(first.bytes.count == 2 * size && second.bytes.count == 3 * size)
        #expect(second.bytes.starts(with: first.bytes))
        #expect(third.bytes.starts(with: second.bytes.dropFirst(size)) && third.bytes.count == 3 * size)
    }

    @Test("kept keys are one to three whole ones", arguments: [0, 1, 87, 89, 175, 4 * 88, 80])
    func malformed(count: Int) throws {
        let keys = TicketKeys(at: hour).renewed(at: hour + period)
        #expect(try TicketKeys(bytes: keys.bytes) == keys)
        let bytes = Array((keys.bytes + keys.bytes).prefix(count))
        #expect(throws: TrustError.self) { try TicketKeys(bytes: bytes) }
    }
}
