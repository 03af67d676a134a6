import Access
import Domain
import Engine
import HTTPTypes
import Hummingbird
import Ledger
import NIOCore
import Postgres
import ServiceLifecycle
import Synchronization
import Wire

/// The event streams of jobs.
///
/// Each stream asks for its job's row, but a row is read at most five times a second however many watch the
/// job: who asks in between, or while another reads, gets the row that is there. A stream is judged again
/// every `judgedSeconds`, so it ends soon after its key does, and when the server stops.
final class JobWatches: Sendable {
    /// How many streams one key may hold.
    static let streamsMax = 100
    /// The shortest and the longest time between two looks at a job.
    static let pause = (shortest: Duration.milliseconds(200), longest: Duration.milliseconds(500))
    /// How often a quiet stream says that it lives.
    static let heartbeat = Duration.seconds(15)
    /// How often the key behind a stream is judged again.
    static let judged = Duration.seconds(4)

    private struct Watched {
        var row: JobRow
        var readAt: ContinuousClock.Instant
        var isBeingRead = false
        var watchers = 1
    }

    /// Rows are shared only by those who see the same.
    private struct Key: Hashable {
        let job: JobID
        let scope: Scope
    }

    private struct State {
        var watched: [Key: Watched] = [:]
        var streams: [PrincipalID: Int] = [:]
    }

    private let reads: Gathering<JobID, JobRow?>
    private let authenticator: Authenticator
    private let state = Mutex(State())

    init(ledger: Ledger, authenticator: Authenticator) {
        reads = Gathering(sizeMax: 256) { scope, ids in
            let rows = try await ledger.jobs(ids, scope: scope)
            return ids.map { rows[$0] }
        }
        self.authenticator = authenticator
    }

    /// A job that the scope sees. Those that are asked for at the same time are read together.
    func job(_ id: JobID, scope: Scope) async throws -> JobRow? {
        try await reads(id, size: 1, scope: scope)
    }

    /// The stream of a job that the caller sees.
    func reply(to call: Call, first row: JobRow) throws -> Reply {
        let principal = try call.principal
        try admit(principal)
        let stream = Stream(watches: self, principal: principal)
        let body = ResponseBody { writer in
            defer { stream.end() }
            try await call.stream.consumeWithCancellationOnInboundClose { _ in
                try await self.write(row, for: call, scope: call.scope, to: &writer)
            }
            try await writer.finish(nil)
        }
        return Reply(
            status: .ok, headers: [.contentType: "text/event-stream", .cacheControl: "no-store"], body: body)
    }

    /// Counts one stream of a key as long as the answer that holds it exists, also if it is never written.
    private final class Stream: Sendable {
        private let watches: JobWatches
        private let principal: Principal
        private let hasEnded = Atomic(false)

        init(watches: JobWatches, principal: Principal) {
            self.watches = watches
            self.principal = principal
        }

        deinit { end() }

        func end() {
            if !hasEnded.exchange(true, ordering: .relaxed) { watches.release(principal) }
        }
    }

    private func admit(_ principal: Principal) throws(Problem) {
        let isAdmitted = state.withLock { state in
            guard state.streams[principal.id, default: 0] < Self.streamsMax else { return false }
            state.streams[principal.id, default: 0] += 1
            return true
        }
        guard isAdmitted else {
            throw Problem(
                .tooManyStreams,
                "the API key holds \(Self.streamsMax) event streams, which is the limit")
        }
    }

    private func release(_ principal: Principal) {
        state.withLock { state in
            let left = (state.streams[principal.id] ?? 1) - 1
            state.streams[principal.id] = left > 0 ? left : nil
        }
    }

    // MARK: One stream

    /// Concurrent, as the writer's own functions are: it stays within one task.
    @concurrent private func write(
        _ first: JobRow, for call: Call, scope: Scope, to writer: inout any ResponseBodyWriter
    ) async throws {
        let key = Key(job: first.id, scope: scope)
        join(key, first)
        defer { leave(key) }
        var shown = Job(first)
        try await writer.write(Self.event(shown))
        var pause = Self.pause.shortest
        var saidAt = ContinuousClock.now
        var judgedAt = ContinuousClock.now
        while !shown.state.isEnd, !Task.isShuttingDownGracefully {
            try await Task.sleep(for: pause)
            if .now - judgedAt > Self.judged {
                let principal = try await authenticator.principal(of: call.credential ?? "")
                guard principal.reach[.jobsRead]?.scope == scope else { throw AccessError.unauthorized }
                judgedAt = .now
            }
            let job = Job(try await latest(key) ?? first)
            if job != shown {
                shown = job
                (pause, saidAt) = (Self.pause.shortest, .now)
                try await writer.write(Self.event(job))
            } else {
                pause = min(pause * 1.5, Self.pause.longest)
                if .now - saidAt > Self.heartbeat {
                    saidAt = .now
                    try await writer.write(ByteBuffer(string: ": still here\n\n"))
                }
            }
        }
    }

    /// One event of the stream.
    private static func event(_ job: Job) -> ByteBuffer {
        var buffer = ByteBuffer(string: "event: job\ndata: ")
        buffer.writeBytes(job.json)
        buffer.writeString("\n\n")
        return buffer
    }

    // MARK: Rows that are shared

    private func join(_ key: Key, _ row: JobRow) {
        state.withLock { state in
            if state.watched[key] == nil {
                state.watched[key] = Watched(row: row, readAt: .now)
            } else {
                state.watched[key]?.watchers += 1
            }
        }
    }

    private func leave(_ key: Key) {
        state.withLock { state in
            state.watched[key]?.watchers -= 1
            if state.watched[key]?.watchers == 0 { state.watched[key] = nil }
        }
    }

    private func latest(_ key: Key) async throws -> JobRow? {
        let known: JobRow? = state.withLock { state in
            guard var watched = state.watched[key] else { return nil }
            if watched.isBeingRead || .now - watched.readAt < Self.pause.shortest { return watched.row }
            watched.isBeingRead = true
            state.watched[key] = watched
            return nil
        }
        if let known { return known }
        defer { state.withLock { $0.watched[key]?.isBeingRead = false } }
        guard let row = try await job(key.job, scope: key.scope) else { return nil }
        state.withLock { state in
            state.watched[key]?.row = row
            state.watched[key]?.readAt = .now
        }
        return row
    }
}
