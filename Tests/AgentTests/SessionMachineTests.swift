import Domain
import Testing
import Wire

@testable import Agent

@Suite("Session machine") struct SessionMachineTests {
    private let welcome = GatewayFrame.welcome(Welcome(session: 1, pingSeconds: 30))

    private func serving() -> SessionMachine {
        var machine = SessionMachine(now: 0)
        #expect(machine.receive(welcome, now: 1) == .deliver(welcome))
        return machine
    }

    @Test("a gateway that does not welcome within ten seconds is left")
    func noWelcome() {
        var machine = SessionMachine(now: 5)
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

    @Test("what does not belong into a session ends it")
    func nonsense() {
        var early = SessionMachine(now: 0)
        #expect(early.receive(.pong(1), now: 1) == .end("the gateway spoke before its welcome"))
        var twice = serving()
        #expect(twice.receive(welcome, now: 2) == .end("the gateway welcomed twice"))
        var pong = serving()
        #expect(pong.receive(.pong(1), now: 2) == .end("the gateway answered a ping that was not sent"))
    }
}
