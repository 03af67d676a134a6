/// The requests of a connection that are not sent yet: pure.
struct Backlog {
    /// How many requests may share a commit.
    static let groupMax = 256

    /// Each for a transaction of its own, in order.
    private var queue: ArraySlice<Request> = []
    /// For the next group commit.
    private var gathering: ArraySlice<Request> = []
    /// The parts of failed groups, which go first.
    private var parts: ArraySlice<[Request]> = []

    var isEmpty: Bool { queue.isEmpty && gathering.isEmpty && parts.isEmpty }
    var count: Int { queue.count + gathering.count + parts.reduce(0) { $0 + $1.count } }
    var all: [Request] { Array(parts.joined()) + queue + gathering }
    /// The next request for a transaction of its own.
    var next: Request? { queue.first }

    mutating func append(_ request: Request) {
        if request.isGrouped { gathering.append(request) } else { queue.append(request) }
    }

    /// Puts the parts of a failed group in front.
    mutating func retry(_ failed: [[Request]]) { parts = failed + parts }

    mutating func removeNext() { queue.removeFirst() }

    /// The next requests to share a commit; empty if there is none.
    mutating func nextGroup() -> [Request] {
        if let part = parts.popFirst() { return part }
        defer { gathering = gathering.dropFirst(Self.groupMax) }
        return Array(gathering.prefix(Self.groupMax))
    }

    /// Takes out what nobody waits for any more.
    mutating func removeSettled() {
        queue.removeAll(where: \.isSettled)
        gathering.removeAll(where: \.isSettled)
        parts = ArraySlice(parts.map { $0.filter { !$0.isSettled } }.filter { !$0.isEmpty })
    }
}
