import Domain
import Testing
import Trust

@testable import Gateway

@Suite("Flapping") struct FlappingTests {
    private let device = DeviceID.new(at: .now())
    private let start = ContinuousClock.now

    @Test("From the fourth session in a row the waking waits, each time twice as long, up to a minute")
    func grows() {
        var flapping = Flapping()
        let waits = (0..<12).map { flapping.connected(device, now: start + .seconds($0)) }
        let expected: [Int] = [0, 0, 0, 1, 2, 4, 8, 16, 32, 60, 60, 60]
        #expect(waits == expected.map { .seconds($0) })
        #expect(flapping.connected(DeviceID.new(at: .now()), now: start) == .zero, "others are calm")
    }

    @Test("A wait is over once, and begins anew with another session")
    func due() {
        var flapping = Flapping()
        for _ in 0..<5 { _ = flapping.connected(device, now: start) }
        #expect(flapping.takeDue(now: start + .milliseconds(999)).isEmpty)
        #expect(flapping.takeDue(now: start + .seconds(1)) == [device])
        #expect(flapping.takeDue(now: start + .seconds(3)).isEmpty)
        #expect(flapping.connected(device, now: start + .seconds(3)) == .seconds(4))
        #expect(flapping.takeDue(now: start + .seconds(6)).isEmpty)
        #expect(flapping.takeDue(now: start + .seconds(7)) == [device])
    }

    @Test("Who comes again and again before its time is woken at its time all the same")
    func restless() {
        var flapping = Flapping()
        for _ in 0..<12 { _ = flapping.connected(device, now: start) }
        #expect(flapping.takeDue(now: start + .seconds(1)) == [device], "the first wait counts")
        for second in 1...60 where flapping.takeDue(now: start + .seconds(second)).isEmpty {
            _ = flapping.connected(device, now: start + .seconds(second))
        }
        #expect(flapping.takeDue(now: start + .seconds(62)) == [device])
    }

    @Test("A minute without a new session is calm, and is forgotten")
    func calm() {
        for isLooked in [false, true] {
            var flapping = Flapping()
            for _ in 0..<9 { _ = flapping.connected(device, now: start) }
            if isLooked { _ = flapping.takeDue(now: start + .seconds(60)) }
            #expect(flapping.connected(device, now: start + .seconds(60)) == .zero)
        }
    }
}
