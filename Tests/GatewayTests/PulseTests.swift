import Domain
import Streams
import TestSupport
import Testing

@testable import Gateway

/// When a gateway needs a new incarnation, event by event.
@Suite struct PulseTests {
    private let start = ContinuousClock.now
    private let first: GatewayID = fresh()
    private let second: GatewayID = fresh()

    private func pulse(_ partitions: Int = 2) -> Pulse {
        Pulse(first, partitions: partitions, lapse: .seconds(5), at: start)
    }

    /// A partition tells its data set; it counts as another one, or not.
    private func hears(
        _ isNews: Bool, _ pulse: inout Pulse, _ epoch: Epoch, from partition: Int, hasSessions: Bool
    ) {
        let wasNews = pulse.hear(epoch, from: partition, hasSessions: hasSessions)
        #expect(wasNews == isNews)
    }

    @Test(
        "Beats keep it; one that finds no heartbeat any more, or fails when the time is over, does not"
    )
    func lapse() {
        var pulse = pulse(1)
        _ = pulse.hear(Epoch("a"), from: 0, hasSessions: false)
        pulse.beat(first, sent: start + .seconds(5), wasAlive: true)
        pulse.missed(first, at: start + .seconds(10))
        #expect(pulse.due == nil)
        var late = pulse
        late.beat(first, sent: start + .seconds(6), wasAlive: false)
        #expect(late.due == [])
        var failing = pulse
        failing.missed(first, at: start + .milliseconds(10_001))
        #expect(failing.due == [])
        // A beat of the incarnation before says nothing about the new one.
        failing.begin(second, sent: start + .seconds(11))
        failing.missed(first, at: start + .seconds(60))
        failing.beat(first, sent: start + .seconds(60), wasAlive: false)
        #expect(failing.incarnation == second && failing.due == nil)
        failing.missed(second, at: start + .milliseconds(16_001))
        #expect(failing.due == [])
    }

    @Test("Another data set calls for a new incarnation where somebody may be noted in the one before")
    func dataSets() {
        var pulse = pulse()
        hears(true, &pulse, Epoch("a"), from: 0, hasSessions: false)
        hears(false, &pulse, Epoch("a"), from: 0, hasSessions: true)
        #expect(pulse.due == nil)
        // The first that a partition says when sessions are held already was not told of them.
        var later = pulse
        hears(true, &later, Epoch("b"), from: 1, hasSessions: true)
        #expect(later.due == [])
        hears(true, &pulse, Epoch("c"), from: 0, hasSessions: false)
        #expect(pulse.due == [1], "the other has said nothing yet")
        pulse.begin(second, sent: start)
        #expect(pulse.due == nil)
        // Lost while sessions were being told.
        hears(true, &pulse, Epoch("d"), from: 0, hasSessions: true)
        #expect(pulse.due == [1])
    }

    @Test("A partition that was left out counts as another data set when it answers")
    func silence() {
        var pulse = pulse()
        _ = pulse.hear(Epoch("a"), from: 0, hasSessions: false)
        _ = pulse.hear(Epoch("b"), from: 1, hasSessions: false)
        _ = pulse.hear(nil, from: 1, hasSessions: true)
        #expect(pulse.due == nil, "who is silent may have kept everything")
        _ = pulse.hear(Epoch("c"), from: 0, hasSessions: true)
        #expect(pulse.due == [1])
        pulse.begin(second, sent: start)
        pulse.untold([1])
        #expect(pulse.due == nil)
        hears(true, &pulse, Epoch("b"), from: 1, hasSessions: true)
        #expect(pulse.due == [])
    }

    @Test("While no partition answers none is due, and one that failed is due again")
    func waits() {
        var pulse = pulse(1)
        pulse.missed(first, at: start + .seconds(6))
        #expect(pulse.isStale && pulse.due == nil)
        _ = pulse.hear(Epoch("a"), from: 0, hasSessions: false)
        #expect(pulse.due == [])
        pulse.begin(second, sent: start + .seconds(6))
        #expect(!pulse.isStale)
        pulse.failed()
        #expect(pulse.due == [])
    }
}
