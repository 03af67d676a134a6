import Testing

@testable import Redis

@Suite struct MailboxTests {
    /// The mailbox of a thread that runs.
    private final class Box {
        var mailbox = Mailbox()

        init(hasCompany: Bool) {
            mailbox.life = .running
            mailbox.hasCompany = hasCompany
        }

        func post(_ commands: Int = 1, underWay: Int) -> Mailbox.Errand {
            let pings = Array(repeating: RedisCommand("PING"), count: commands)
            return mailbox.post(Exchange(pings, timeout: .seconds(1)), underWay: underWay)
        }

        func collect() -> Int { mailbox.collect().exchanges.count }
        func keepsPromise() -> Bool { mailbox.keepsPromise() }
        func wakes() -> Bool { mailbox.wakes() }
        func fallsAsleep(seenClosing: Bool = false) -> Bool { mailbox.fallAsleep(seenClosing: seenClosing) }
    }

    @Test("Whoever posts alone to a thread that sleeps writes; nobody does while it is awake")
    func alone() {
        let box = Box(hasCompany: false)
        #expect(box.post(underWay: 1) == .nothing)
        #expect(!box.fallsAsleep())
        #expect(box.collect() == 1)
        #expect(box.fallsAsleep())
        #expect(box.post(underWay: 1) == .write)
        #expect(box.post(underWay: 2) == .nothing)
    }

    @Test("In company the first promises to write, and whoever completes half of what is under way writes")
    func company() {
        let box = Box(hasCompany: true)
        for _ in 0..<2 {
            #expect(box.fallsAsleep())
            let errands = (0..<32).map { _ in box.post(underWay: 64) }
            #expect(errands[0] == .promise)
            #expect(errands[1..<31].allSatisfy { $0 == .nothing })
            #expect(errands[31] == .write)
            #expect(box.collect() == 32)
        }
    }

    @Test("Few do not write before all have posted; a pipeline counts with all its commands")
    func parts() {
        let box = Box(hasCompany: true)
        #expect(box.fallsAsleep())
        #expect(box.post(underWay: 1) == .promise)
        for underWay in 2...15 { #expect(box.post(underWay: underWay) == .nothing) }
        #expect(box.post(underWay: 16) == .write)
        #expect(box.collect() == 16)
        #expect(box.fallsAsleep())
        #expect(box.post(underWay: 101) == .promise)
        #expect(box.post(50, underWay: 102) == .write)
        #expect(box.collect() == 2)
        #expect(box.fallsAsleep())
        #expect(box.post(50, underWay: 50) == .write)
    }

    @Test("A promise is kept once, and not where somebody else has written")
    func promise() {
        let box = Box(hasCompany: true)
        #expect(box.fallsAsleep())
        #expect(box.post(underWay: 1) == .promise)
        #expect(box.keepsPromise())
        #expect(!box.keepsPromise())
        #expect(box.collect() == 1)
        #expect(box.fallsAsleep())
        #expect(!box.keepsPromise())
        #expect(box.post(underWay: 1) == .promise)
        #expect(box.collect() == 1)
        #expect(!box.keepsPromise())
    }

    @Test("An order to the thread wakes it, also where a write was promised; a closed box takes nothing")
    func orders() {
        let box = Box(hasCompany: true)
        #expect(box.fallsAsleep())
        #expect(box.post(underWay: 1) == .promise)
        #expect(box.wakes())
        #expect(!box.wakes())
        box.mailbox.mail.isClosing = true
        #expect(box.post(underWay: 2) == .refuse)
        #expect(box.collect() == 1)
        #expect(!box.fallsAsleep())
        #expect(box.fallsAsleep(seenClosing: true))
    }
}
