import Testing

@testable import Outbound

@Suite("A chunk buffer")
struct ChunkBufferTests {
    @Test("takes chunks up to its limit and asks the transfer to go on when it is read")
    func bounds() async throws {
        let buffer = ChunkBuffer(bytesMax: 10)
        #expect(buffer.offer(Array(1...6)))
        #expect(buffer.offer(Array(7...10)))
        #expect(!buffer.offer([11]))
        var resumes = 0
        #expect(try await buffer.next { resumes += 1 } == Array(1...10))
        #expect(resumes == 1)
        #expect(buffer.offer([11]))
        #expect(try await buffer.next { resumes += 1 } == [11])
        #expect(resumes == 1)
    }

    @Test("takes a chunk larger than its limit when it is empty")
    func largeChunk() async throws {
        let buffer = ChunkBuffer(bytesMax: 1)
        #expect(buffer.offer([1, 2, 3]))
        #expect(try await buffer.next {} == [1, 2, 3])
    }

    @Test("hands out what it has before its end, and the first end counts")
    func ends() async throws {
        let buffer = ChunkBuffer(bytesMax: 10)
        #expect(buffer.offer([1]))
        buffer.finish(OutboundError(.timeout, "late"))
        buffer.finish(nil)
        #expect(try await buffer.next {} == [1])
        let error = await #expect(throws: OutboundError.self) { try await buffer.next {} }
        #expect(error?.code == .timeout)
        #expect(error?.isTransient == true)
    }
}
