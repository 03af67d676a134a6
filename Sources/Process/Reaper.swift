import CProcess
import Glibc
import Synchronization

/// The one thread that forks and collects the children of this process.
///
/// It is shared by the whole process, because what it looks after is: the kernel ties the parent-death signal
/// to the *thread* that forked, so that this thread must live as long as the process, and orphans are adopted
/// by the process as a whole. It ends never.
final class Reaper: Sendable {
    static let shared = Reaper()

    private struct State {
        var isStarted = false
        var adoptsOrphans = false
        var requests: [ForkRequest] = []
    }

    private let state = Mutex(State())
    /// The children spawned and not collected. Held during a fork too, so that who has seen a process and
    /// then does not find it here knows that it was not spawned.
    private let children = Mutex<[Int32: ChildProcess]>([:])
    private let wake = Result<Wake, ProcessError> { () throws(ProcessError) in try Wake() }

    /// Forks on the reaper's thread while the calling thread waits for that. What the child does until its
    /// program runs nobody waits for here: a working directory that does not answer holds up no other child.
    func fork(
        _ options: ChildOptions, streams: [Int32]
    ) throws(ProcessError) -> (ChildProcess, report: Int32) {
        let request = ForkRequest(options: options, streams: streams, done: try Wake())
        try post { $0.requests.append(request) }
        request.done.wait()
        return try request.outcome()
    }

    /// From now on collects every child of this process that was not spawned here: adopted orphans.
    func adoptOrphans() throws(ProcessError) {
        let result = crmm_become_subreaper()
        if result < 0 { throw ProcessError(.resource, errno: -result, "cannot become a subreaper") }
        try post { $0.adoptsOrphans = true }
    }

    /// The children spawned that may still run, and nothing unless orphans are adopted.
    var spawnedAmongAdopted: Set<Int32>? {
        guard state.withLock({ $0.adoptsOrphans }) else { return nil }
        return children.withLock { Set($0.keys) }
    }

    private func post(_ change: (inout State) -> Void) throws(ProcessError) {
        let wake = try wake.get()
        let result = state.withLock { state -> Result<Void, ProcessError> in
            if !state.isStarted {
                do throws(ProcessError) {
                    try startThread("crmm-reaper") { self.run(wake) }
                } catch {
                    return .failure(error)
                }
                state.isStarted = true
            }
            change(&state)
            return .success(())
        }
        try result.get()
        wake.notify()
    }

    private func run(_ wake: Wake) {
        var hasOthers = false
        while true {
            let spawned = children.withLock { Array($0.values) }
            var polled = ([wake.descriptor] + spawned.map(\.descriptor)).map {
                pollfd(fd: $0, events: Int16(POLLIN), revents: 0)
            }
            // Adopted orphans have no descriptor: they are looked for after each event, and each second while
            // there are any.
            unsafe poll(&polled, nfds_t(polled.count), hasOthers ? 1000 : -1)
            if polled[0].revents != 0 { wake.wait() }

            let (requests, adopts) = state.withLock { state in
                defer { state.requests = [] }
                return (state.requests, state.adoptsOrphans)
            }
            for request in requests {
                children.withLock { children in
                    if let child = request.fulfil() { children[child.pid] = child }
                }
                request.done.notify()
            }
            children.withLock { children in
                for child in spawned where child.collect() { children[child.pid] = nil }
            }
            hasOthers = adopts && collectOrphans()
        }
    }

    /// Collects adopted children that have ended; false if there are no children at all.
    private func collectOrphans() -> Bool {
        while true {
            let pid = crmm_peek_ended()
            if pid < 0 { return false }
            if pid == 0 { return true }
            if let child = children.withLock({ $0[pid] }) {
                child.collect()
            } else {
                var code: Int32 = 0
                var signaled: Int32 = 0
                unsafe crmm_reap(pid, &code, &signaled)
            }
        }
    }
}

/// One call of `Reaper.fork`, on its way to the reaper's thread and back.
private final class ForkRequest: Sendable {
    typealias Outcome = Result<(ChildProcess, report: Int32), ProcessError>

    let done: Wake
    private let options: ChildOptions
    private let streams: [Int32]
    private let result = Mutex<Outcome?>(nil)

    init(options: ChildOptions, streams: [Int32], done: Wake) {
        self.options = options
        self.streams = streams
        self.done = done
    }

    /// Forks; returns the process to look after.
    func fulfil() -> ChildProcess? {
        do throws(ProcessError) {
            let (process, report) = try fork(options, streams: streams)
            result.withLock { $0 = .success((process, report)) }
            return process
        } catch {
            result.withLock { $0 = .failure(error) }
            return nil
        }
    }

    /// The outcome, once `done` was notified.
    func outcome() throws(ProcessError) -> (ChildProcess, report: Int32) {
        let taken = result.withLock { result in
            defer { result = nil }
            return result
        }
        guard let taken else { throw ProcessError(.spawn, "the reaper lost the request") }
        return try taken.get()
    }
}
