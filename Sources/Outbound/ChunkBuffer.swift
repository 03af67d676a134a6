import Synchronization

/// Carries body bytes from the transfer thread to one reader and holds the sender back when it is full.
final class ChunkBuffer: Sendable {
    private struct State {
        var bytes: [UInt8] = []
        var isPaused = false
        var isFinished = false
        var failure: OutboundError?
        var reader: CheckedContinuation<[UInt8]?, any Error>?
    }

    private let bytesMax: Int
    private let state = Mutex(State())

    init(bytesMax: Int) { self.bytesMax = bytesMax }

    /// Takes a chunk; false means that it was not taken and the transfer has to pause until the reader
    /// resumes it. An empty buffer takes any chunk, so that a small limit cannot stall the stream.
    func offer(_ chunk: [UInt8]) -> Bool {
        let (isTaken, reader) = state.withLock { state -> (Bool, CheckedContinuation<[UInt8]?, any Error>?) in
            if let reader = state.reader {
                state.reader = nil
                return (true, reader)
            }
            guard state.bytes.isEmpty || state.bytes.count + chunk.count <= bytesMax else {
                state.isPaused = true
                return (false, nil)
            }
            state.bytes += chunk
            return (true, nil)
        }
        reader?.resume(returning: chunk)
        return isTaken
    }

    /// Ends the stream after what is buffered; only the first call counts.
    func finish(_ failure: OutboundError?) {
        let reader = state.withLock { state -> CheckedContinuation<[UInt8]?, any Error>? in
            guard !state.isFinished else { return nil }
            state.isFinished = true
            state.failure = failure
            defer { state.reader = nil }
            return state.reader
        }
        if let failure { reader?.resume(throwing: failure) } else { reader?.resume(returning: nil) }
    }

    /// Everything that has arrived, or the next chunk, or nil at the end; `resume` restarts a paused
    /// transfer.
    func next(resume: () -> Void) async throws -> [UInt8]? {
        try await withCheckedThrowingContinuation { continuation in
            let (answer, wasPaused) = state.withLock { state -> (Result<[UInt8]?, any Error>?, Bool) in
                if !state.bytes.isEmpty {
                    let bytes = state.bytes
                    let wasPaused = state.isPaused
                    state.bytes = []
                    state.isPaused = false
                    return (.success(bytes), wasPaused)
                }
                guard !state.isFinished else {
                    return (state.failure.map { .failure($0) } ?? .success(nil), false)
                }
                precondition(state.reader == nil, "a stream has one reader")
                state.reader = continuation
                return (nil, false)
            }
            if wasPaused { resume() }
            if let answer { continuation.resume(with: answer) }
        }
    }
}
