import Glibc

/// All the processes that come from one child, also those that changed group or session or lost their parent.
///
/// A member is the child itself, whoever carries the run's marker in the environment, whoever descends from a
/// member, who is in the child's group or session, and who was a member before and still runs. What dropped
/// the marker, left the session and lost its parent is found where orphans are adopted and no other tree
/// could own it (`claimsStrays`).
package struct ProcessTree: Sendable {
    /// The environment variable that marks the processes of a run.
    package static let markerName = "CLOUDRMM_RUN"

    /// Adopted orphans without any marker that started after the child are members too: right only while no
    /// other tree of this process lives, whose they might be.
    package var claimsStrays = false

    private let root: ProcessIdentity?
    /// Whether the root is this process's child, and its number so not another's until it is collected.
    private let isOwn: Bool
    private let marker: [UInt8]?
    private var known: Set<ProcessIdentity> = []

    /// The tree of this running child, which was started with the marker, if any.
    package init(root pid: Int32, marker: String?) {
        self.init(root: ProcessIdentity(pid: pid), marker: marker)
    }

    /// The tree of this child, which may have ended, started with the marker, if any.
    package init(root: ProcessIdentity?, marker: String?) {
        self.root = root
        isOwn = true
        self.marker = marker.map { Array("\(ProcessTree.markerName)=\($0)".utf8) }
    }

    /// The tree of a run that an earlier process started: found by the marker, and by the leader, if that was
    /// written down: what is in its group or session, as long as nobody else has the leader's number.
    package init(left leader: ProcessIdentity? = nil, marker: String) {
        root = leader
        isOwn = false
        self.marker = Array("\(ProcessTree.markerName)=\(marker)".utf8)
    }

    /// Makes this process the parent of orphaned descendants, so that they stay within reach, and collects
    /// them.
    ///
    /// From then on every child of this process must be made by `Child.spawn`; the exits of others are taken
    /// away.
    package static func adoptOrphans() throws(ProcessError) { try Reaper.shared.adoptOrphans() }

    /// The running processes that carry the marker or descend from one that does.
    package static func members(marker: String) -> [ProcessIdentity] {
        var tree = ProcessTree(left: nil, marker: marker)
        return tree.members()
    }

    /// The members that run now; the calling process is never one.
    package mutating func members() -> [ProcessIdentity] {
        let own = getpid()
        let table = ProcessEntry.all()
        // After the look at the table, see `Reaper.children`.
        let spawned = claimsStrays ? Reaper.shared.spawnedAmongAdopted : nil
        let rootIsThere = table.contains { $0.identity == root }
        let numberIsFree = !isOwn && !table.contains { $0.pid == root?.pid }
        let candidates = table.filter { $0.pid != own && $0.identity.startTicks >= root?.startTicks ?? 0 }
        var found: Set<ProcessIdentity> = []
        for entry in candidates {
            let isKnown = entry.identity == root || known.contains(entry.identity)
            // Once the root is collected its number is only proof in a process that is our own child or
            // orphan; of a root that was another's child, while the kernel keeps the number for its session.
            let sharesGroup =
                (entry.group == root?.pid || entry.session == root?.pid)
                && (rootIsThere || (isOwn ? entry.parent == own : numberIsFree))
            let isMember =
                isKnown || sharesGroup || marker.map { entry.environmentHas(prefix: $0 + [0]) } ?? false
            if isMember || isStray(entry, spawned: spawned) { found.insert(entry.identity) }
        }
        var pids = Set(found.map(\.pid))
        var grew = true
        while grew {
            grew = false
            for entry in candidates where pids.contains(entry.parent) && pids.insert(entry.pid).inserted {
                found.insert(entry.identity)
                grew = true
            }
        }
        known = found
        return candidates.filter { found.contains($0.identity) && !$0.hasEnded }.map(\.identity)
    }

    private func isStray(_ entry: ProcessEntry, spawned: Set<Int32>?) -> Bool {
        // Without knowing when the root started nobody could say what came after it.
        guard root != nil, let spawned, entry.parent == getpid(), !spawned.contains(entry.pid) else {
            return false
        }
        return !entry.environmentHas(prefix: Array("\(ProcessTree.markerName)=".utf8))
    }

    private static let emptyLooksNeeded = 3

    /// Whether no member is left: several looks in a row find none, see ``kill()``.
    mutating func isGone() -> Bool {
        for _ in 0..<Self.emptyLooksNeeded where !members().isEmpty { return false }
        return true
    }

    /// Sends a signal to every member once.
    package mutating func signal(_ number: Int32) {
        for member in members() { member.signal(number) }
    }

    /// Kills every member; true when none is left.
    ///
    /// Members are stopped first, until a look finds no new one, so that none can fork away between look and
    /// kill. A look takes time, in which a process may fork and end, so that neither it nor its child is
    /// seen: only several looks in a row that find nothing count. Bounded: gives up on processes that survive
    /// (uninterruptible sleep, another user's) after some rounds.
    @discardableResult
    package mutating func kill() -> Bool {
        var emptyLooks = 0
        for round in 0..<12 {
            var stopped: Set<ProcessIdentity> = []
            for _ in 0..<20 {
                let fresh = members().filter { !stopped.contains($0) }
                if fresh.isEmpty { break }
                for member in fresh { member.signal(SIGSTOP) }
                stopped.formUnion(fresh)
            }
            guard !stopped.isEmpty else {
                emptyLooks += 1
                if emptyLooks == Self.emptyLooksNeeded { return true }
                continue
            }
            emptyLooks = 0
            for member in stopped { member.signal(SIGKILL) }
            // The kernel needs a moment to end them.
            for _ in 0..<20 where stopped.contains(where: \.isRunning) {
                usleep(UInt32(500 << min(round, 4)))
            }
        }
        return members().isEmpty
    }
}
