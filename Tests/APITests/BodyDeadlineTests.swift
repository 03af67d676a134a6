import NIOCore
import NIOEmbedded
import Testing

@testable import API

@Suite struct BodyDeadlineTests {
    @Test("A connection whose body does not come in time is closed, and no other")
    func late() async throws {
        let bodies = BodyDeadlines()
        let channels = (0..<3).map { _ in NIOAsyncTestingChannel() }
        for channel in channels { try await channel.connect(to: SocketAddress(unixDomainSocketPath: "x")) }
        let begin = ContinuousClock.now
        _ = bodies.begin(channels[0], at: begin)
        let arrived = bodies.begin(channels[1], at: begin)
        _ = bodies.begin(channels[2], at: begin + .seconds(30))
        bodies.close(at: begin + BodyDeadlines.timeout)
        #expect(channels.map(\.isActive) == [true, true, true], "the time is not over")
        bodies.end(arrived)
        bodies.close(at: begin + BodyDeadlines.timeout + .milliseconds(1))
        try await channels[0].closeFuture.get()
        #expect(channels.dropFirst().map(\.isActive) == [true, true])
    }
}
