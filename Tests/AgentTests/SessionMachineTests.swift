import Domain
import Testing
import Wire

@testable import Agent

@Suite("Session machine") struct SessionMachineTests {
    private let welcome = GatewayFrame.welcome(Welcome(session: 1, pingSeconds: 30, helloSeconds: 300))

    private func serving() -> SessionMachine {
        var machine = SessionMachine(now: 0, spread: 0.5)
        #expect(machine.receive(welcome, now: 1) == .deliver(welcome))
        return machine
    }

    @Test("a gateway that does not welcome within ten seconds is left")
    func noWelcome() {
        var machine = SessionMachine(now: 5, spread: 0)
        #expect(machine.nextTick == 15)
        #expect(machine.tick(now: 14.9) == .none)
        #expect(machine.tick(now: 15) == .end("the gateway did not welcome in time"))
        #expect(machine.nextTick == nil)
        #expect(machine.receive(welcome, now: 16) == .none)
    }

    @Test("pings go out each period, and two periods without a pong end the session")
    func pings() {
        var machine = serving()
        #expect(machine.nextTick == 31)
        #expect(machine.tick(now: 30) == .none)
        #expect(machine.tick(now: 31) == .ping(1))
        #expect(machine.receive(.pong(1), now: 32) == .none)
        #expect(machine.tick(now: 61) == .ping(2))
        #expect(machine.tick(now: 91) == .ping(3))
        #expect(machine.receive(.pong(2), now: 92) == .none)
        #expect(machine.tick(now: 121) == .ping(4), "ping 3 is one period old")
        #expect(machine.tick(now: 150.9) == .none)
        #expect(machine.tick(now: 151) == .end("the gateway does not answer pings"))
    }

    @Test("hellos go out at their pace, and each may be answered once, or not at all")
    func hellos() {
        var machine = SessionMachine(now: 0, spread: 0.5)
        _ = machine.receive(.welcome(Welcome(session: 1, pingSeconds: 3_600, helloSeconds: 400)), now: 1)
        #expect(machine.nextTick == 301)
        #expect(machine.tick(now: 301) == .hello)
        #expect(machine.nextTick == 601)
        #expect(machine.receive(welcome, now: 302) == .deliver(welcome))
        #expect(machine.nextTick == 601, "the pace is the first welcome's")
        #expect(machine.tick(now: 601) == .hello)
        #expect(machine.tick(now: 901) == .hello)
        #expect(machine.receive(welcome, now: 902) == .deliver(welcome))
        #expect(machine.receive(welcome, now: 903) == .deliver(welcome))
        #expect(machine.receive(welcome, now: 904) == .end("the gateway welcomed without being asked"))
        for (spread, next) in [(0.0, 201.0), (0.999, 400.8)] {
            var machine = SessionMachine(now: 0, spread: spread)
            _ = machine.receive(.welcome(Welcome(session: 1, pingSeconds: 3_600, helloSeconds: 400)), now: 1)
            #expect(abs(machine.nextTick! - next) < 0.001)
        }
    }

    @Test("what does not belong into a session ends it")
    func nonsense() {
        var early = SessionMachine(now: 0, spread: 0.5)
        #expect(early.receive(.pong(1), now: 1) == .end("the gateway spoke before its welcome"))
        var twice = serving()
        #expect(twice.receive(welcome, now: 2) == .end("the gateway welcomed without being asked"))
        var pong = serving()
        #expect(pong.receive(.pong(1), now: 2) == .end("the gateway answered a ping that was not sent"))
    }
}
