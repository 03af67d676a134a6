import Process
import Testing
import Trust

@testable import cloudrmm

@Suite("Files of gateways that start together")
struct GatewayFilesTests {
    @Test("a gateway waits for the first keys of tickets that another one is slow to make")
    func slowNeighbour() async throws {
        let scratch = try ScratchKeys()
        let files = try scratch.keys.gatewayFiles
        let lock = try FileLock("\(files.directory)/tickets.lock")
        async let waiting = Self.tls(of: files)
        // Whoever tries the lock is refused after a tenth of a second, so by now the other gateway was too.
        for _ in 0..<4 {
            #expect(throws: ProcessError.self) { try FileLock("\(files.directory)/tickets.lock") }
        }
        let keys = TicketKeys(at: systemSeconds())
        try DurableFile.write(keys.bytes, to: "\(files.directory)/tickets.key")
        #expect(try await waiting.tickets == keys)
        lock.release()
    }

    @concurrent private static func tls(of files: GatewayFiles) async throws -> ListenerFiles {
        try files.tls()
    }

    @Test("a gateway does not wait where keys are there, and makes the next ones where nobody does")
    func alone() throws {
        let scratch = try ScratchKeys()
        let files = try scratch.keys.gatewayFiles
        let first = try #require(try files.tls().tickets)
        #expect(try files.tls().tickets == first)
        let lock = try FileLock("\(files.directory)/tickets.lock")
        let old = TicketKeys(at: systemSeconds() - TicketKeys.periodSeconds)
        try DurableFile.write(old.bytes, to: "\(files.directory)/tickets.key")
        #expect(try files.tls().tickets == old, "another gateway is at it")
        lock.release()
        let next = try #require(try files.tls().tickets)
        #expect(next != old && next.renewed(at: systemSeconds()) == next)
    }
}
