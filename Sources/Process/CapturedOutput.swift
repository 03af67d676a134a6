/// What is kept of an output stream: its beginning, its end, and how much there was.
package struct CapturedOutput: Sendable, Hashable {
    /// The first bytes.
    package private(set) var head: [UInt8] = []
    /// How many bytes the stream had, kept or not.
    package private(set) var totalBytes = 0

    private let headBytesMax: Int
    private let tailBytesMax: Int
    /// The tail as a ring once it is full; `ringStart` is its oldest byte.
    private var ring: [UInt8] = []
    private var ringStart = 0

    /// An empty stream of which at most so many bytes are kept at each end.
    package init(headBytesMax: Int, tailBytesMax: Int) {
        self.headBytesMax = headBytesMax
        self.tailBytesMax = tailBytesMax
    }

    /// The last bytes, none of which is in the head.
    package var tail: [UInt8] { Array(ring[ringStart...] + ring[..<ringStart]) }

    /// How many bytes between head and tail were dropped.
    package var omittedBytes: Int { totalBytes - head.count - ring.count }

    /// Takes the next bytes of the stream.
    package mutating func append(_ bytes: ArraySlice<UInt8>) {
        totalBytes += bytes.count
        let toHead = bytes.prefix(headBytesMax - head.count)
        head += toHead
        var rest = bytes.dropFirst(toHead.count).suffix(tailBytesMax)
        let toFill = rest.prefix(tailBytesMax - ring.count)
        ring += toFill
        rest = rest.dropFirst(toFill.count)
        while !rest.isEmpty {
            let piece = rest.prefix(ring.count - ringStart)
            ring.replaceSubrange(ringStart..<(ringStart + piece.count), with: piece)
            ringStart = (ringStart + piece.count) % ring.count
            rest = rest.dropFirst(piece.count)
        }
    }
}
