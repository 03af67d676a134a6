import Domain
import Process
import Testing
import Wire

@testable import Agent

@Suite("Outbox") struct OutboxTests {
    private let fixture: Fixture

    init() throws { fixture = try Fixture() }

    private func result(bytes: Int) -> (AttemptKey, Finished) {
        let half = [UInt8](repeating: 7, count: bytes / 2)
        let output = OutputExcerpt(head: half, tail: half, bytes: bytes)
        return (
            AttemptKey(job: .new(at: fixture.now), attempt: 1),
            Finished(name: fixture.name(), outcome: .succeeded, finishedAt: fixture.now, stdout: output)
        )
    }

    @Test("a result that was just written is in memory, until newer ones or its end take it out")
    func memory() async throws {
        try await withDirectory { directory in
            let outbox = Outbox(directory: directory)
            let large = (0..<9).map { _ in result(bytes: 256 << 10) }
            for (key, result) in large { try outbox.write(key, result) }
            #expect(outbox.inMemory(large[0].0) == nil, "nine of them are more than 2 MiB")
            #expect(large.dropFirst().allSatisfy { outbox.inMemory($0.0) == $0.1 })
            try outbox.remove(large[8].0)
            #expect(outbox.inMemory(large[8].0) == nil)

            let small = (0...Outbox.inFlightMax).map { _ in result(bytes: 2) }
            for (key, result) in small { try outbox.write(key, result) }
            #expect(outbox.inMemory(small[0].0) == nil)
            #expect(small.dropFirst().allSatisfy { outbox.inMemory($0.0) == $0.1 })
            #expect(outbox.stored(small[0].0, small[0].1.name)?.stdout == small[0].1.stdout)
            #expect(outbox.stored(small[0].0, fixture.name()) == nil)
        }
    }
}
