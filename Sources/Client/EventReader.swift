import Outbound
import Wire

/// Splits the bytes of server-sent events into the data of each event (WHATWG HTML, 9.2.6): comments and
/// fields other than `data` are skipped, lines end in LF or CRLF.
struct EventParser {
    /// The most bytes of one event.
    static let eventBytesMax = 1 << 20

    private var line: [UInt8] = []
    private var data: [UInt8] = []
    private var hasData = false

    /// Takes bytes as they come; returns the data of the events that they complete.
    mutating func take(_ bytes: [UInt8]) throws(ClientError) -> [[UInt8]] {
        var events: [[UInt8]] = []
        for byte in bytes {
            guard byte == UInt8(ascii: "\n") else {
                line.append(byte)
                guard line.count + data.count <= Self.eventBytesMax else {
                    throw ClientError(description: "an event has more than \(Self.eventBytesMax) bytes")
                }
                continue
            }
            if line.last == UInt8(ascii: "\r") { line.removeLast() }
            if line.isEmpty {
                if hasData { events.append(data) }
                (data, hasData) = ([], false)
            } else if line.starts(with: "data:".utf8) {
                if hasData { data.append(UInt8(ascii: "\n")) }
                data += line.dropFirst(line.dropFirst(5).first == UInt8(ascii: " ") ? 6 : 5)
                hasData = true
            }
            line.removeAll(keepingCapacity: true)
        }
        return events
    }
}

/// The jobs of an event stream, for one reader.
actor EventReader {
    private var iterator: AsyncThrowingStream<[UInt8], any Error>.AsyncIterator
    private var parser = EventParser()
    private var waiting: [[UInt8]] = []

    init(chunks: AsyncThrowingStream<[UInt8], any Error>) { iterator = chunks.makeAsyncIterator() }

    /// The next job; `nil` after the last.
    func next() async throws -> Job? {
        while waiting.isEmpty {
            var iterator = iterator
            guard let chunk = try await Self.refusals({ try await iterator.next(isolation: #isolation) })
            else { return nil }
            self.iterator = iterator
            waiting = try parser.take(chunk)
        }
        return try ClientError.decode(waiting.removeFirst())
    }

    private static func refusals(_ body: () async throws -> [UInt8]?) async throws -> [UInt8]? {
        do {
            return try await body()
        } catch let error as OutboundError {
            throw error.response.map(ClientError.refusal) ?? error
        }
    }
}
