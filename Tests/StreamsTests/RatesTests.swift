import Domain
import TestSupport
import Testing

@testable import Streams

/// What processes count, read as rates.
struct RatesTests {
    @Test("Counts of several sources add up for a minute; a sweep and limits leave them alone")
    func counts() async throws {
        try await Bench.run { bench in
            let (one, other) = (Draw.organization(), Draw.organization())
            let period = 119_000_000
            try await bench.queue.report(
                [one: WorkCount(marked: 9, ended: 9)], source: "b", period: period - 5)
            try await bench.queue.report(
                [one: WorkCount(marked: 2, ended: 3)], source: "b", period: period - 4)
            try await bench.queue.report(
                [one: WorkCount(marked: 7, ended: 5), other: WorkCount(marked: 1, ended: 1)], source: "a",
                period: period)
            // A bucket of a rate, and the sweep which forgets those that are full.
            _ = try await bench.queue.bring(
                one.queue(), version: 0, entries: [], more: false, rate: RunRate(perSecond: 1, burst: 1),
                epoch: bench.epoch)
            _ = try await bench.queue.sweep(epoch: bench.epoch)
            let rates = try await bench.queue.rates(
                of: [one, other], atMilliseconds: period * 15_000 + 3_000)
            #expect(rates.seconds == 63)
            #expect(
                rates.byOrganization == [
                    one: WorkCount(marked: 9, ended: 8), other: WorkCount(marked: 1, ended: 1),
                ])
            #expect(rates.total == WorkCount(marked: 10, ended: 9))
        }
    }
}
