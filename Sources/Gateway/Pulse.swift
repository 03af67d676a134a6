import Domain
import Streams

/// What a gateway knows of its heartbeat and of the data sets in which it has said whom it holds; pure.
///
/// Its incarnation is *stale* once a beat has come too late, or a partition has another data set than the one
/// in which sessions were noted. It stays so until another one begins.
struct Pulse: Sendable {
    typealias Moment = ContinuousClock.Instant

    /// The incarnation in force.
    private(set) var incarnation: GatewayID
    /// Whether another one has to be taken as soon as any partition answers.
    private(set) var isStale = false
    private let lapse: Duration
    /// When the last beat that arrived was sent: the heartbeat's time runs from then at the earliest.
    private var sent: Moment
    /// The data set of each partition in which the sessions are noted; nil where none is.
    private var noted: [Epoch?]
    /// What each partition has said last; nil while it does not answer or has none.
    private var heard: [Epoch?]

    /// The first incarnation, of partitions that nobody has asked yet.
    init(_ incarnation: GatewayID, partitions: Int, lapse: Duration, at now: Moment) {
        (self.incarnation, self.lapse, sent) = (incarnation, lapse, now)
        noted = Array(repeating: nil, count: partitions)
        heard = noted
    }

    /// A beat has arrived, and found the one before it in force, or over.
    mutating func beat(_ id: GatewayID, sent: Moment, wasAlive: Bool) {
        guard id == incarnation else { return }
        if !wasAlive { isStale = true }
        self.sent = max(self.sent, sent)
    }

    /// A beat has failed. Once the time is over it has lapsed for sure; in a cluster another incarnation's
    /// key lies elsewhere, perhaps.
    mutating func missed(_ id: GatewayID, at now: Moment) {
        if id == incarnation, now - sent > lapse { isStale = true }
    }

    /// A partition has told its data set, or nothing. Returns whether it is one that was not known.
    mutating func hear(_ epoch: Epoch?, from partition: Int, hasSessions: Bool) -> Bool {
        heard[partition] = epoch
        guard let epoch, epoch != noted[partition] else { return false }
        // Before the first data set was seen nobody can have been noted in it.
        if noted[partition] != nil || hasSessions { isStale = true }
        noted[partition] = epoch
        return true
    }

    /// The partitions that a new incarnation would leave out, for they do not answer; nil while none is due.
    var due: Set<Int>? {
        guard isStale, heard.contains(where: { $0 != nil }) else { return nil }
        return Set(heard.indices.filter { heard[$0] == nil })
    }

    /// A new incarnation has begun. What makes it stale from now on makes it so again.
    mutating func begin(_ id: GatewayID, sent: Moment) {
        (incarnation, self.sent, isStale) = (id, sent, false)
    }

    /// The sessions of these partitions are not noted: each is another data set when it answers.
    mutating func untold(_ partitions: Set<Int>) {
        for partition in partitions { noted[partition] = nil }
    }

    /// The new incarnation was not taken whole: another has to be.
    mutating func failed() { isStale = true }
}
