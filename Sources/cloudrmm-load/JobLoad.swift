import Client
import Domain
import Synchronization
import Wire

/// Submits jobs open-loop, follows a sample to its end, and sums up.
final class JobLoad: Sendable {
    /// Jobs a second that are followed one by one at most, so that following does not become the load.
    static let followedPerSecond = 100.0
    /// How often a followed job is looked at, at first and at most.
    static let lookInterval = (first: Duration.milliseconds(4), last: Duration.milliseconds(200))

    private struct State {
        var accepted: [JobID: ContinuousClock.Instant] = [:]
        var refused = 0
        var firstProblem: String?
        var unsettled = 0
    }

    private let client: APIClient
    private let targets: [Target]
    private let kind: JobKind
    private let rate: Double
    private let count: Int
    private let bulk: Int
    private let inFlightMax: Int
    private let settleMax: Duration
    private let state = Mutex(State())
    private let submit = Latencies()
    private let settle = Latencies()
    private let server = Latencies()

    init(
        client: APIClient, targets: [Target], kind: JobKind, rate: Double, count: Int, bulk: Int,
        inFlightMax: Int,
        settleMax: Duration
    ) {
        self.client = client
        self.targets = targets
        self.kind = kind
        self.rate = rate
        self.count = max(1, count)
        self.bulk = bulk
        self.inFlightMax = inFlightMax
        self.settleMax = settleMax
    }

    /// Submits everything, waits for the end, and prints the summary.
    func run() async throws {
        let start = ContinuousClock.now
        let followEvery = max(1, Int((rate / Self.followedPerSecond).rounded(.up)))
        let (ids, follower) = AsyncStream.makeStream(of: JobID.self)
        async let following: Void = follow(ids)
        await withTaskGroup(of: Void.self) { submissions in
            for (place, first) in stride(from: 0, to: count, by: bulk).enumerated() {
                let due = start + .seconds(Double(first) / rate)
                // A cancelled sleep only hurries the rest, which then is cancelled too.
                try? await Task.sleep(until: due, clock: .continuous)
                if Task.isCancelled { break }
                if place >= inFlightMax { await submissions.next() }
                let jobs = (first..<min(first + bulk, count)).map { job($0) }
                submissions.addTask {
                    let sample = await self.send(jobs, due: due, followEvery: followEvery, first: first)
                    for id in sample { follower.yield(id) }
                }
            }
        }
        follower.finish()
        let submitted = start.duration(to: .now)
        await following
        let summary = try await sumUp()
        print(summary, submitSeconds: submitted)
    }

    private func job(_ index: Int) -> NewJob {
        NewJob(
            kind: kind, target: targets[index % targets.count],
            script: kind == .script ? Script(.sh, "true") : nil,
            timeoutSeconds: 60, expiresInSeconds: 3_600)
    }

    /// Submits one request's jobs; returns those that are to be followed.
    private func send(_ jobs: [NewJob], due: ContinuousClock.Instant, followEvery: Int, first: Int) async
        -> [JobID]
    {
        var ids: [JobID?] = []
        var problem: String?
        do {
            if bulk == 1 {
                for job in jobs {
                    let accepted = try await confirming { devices in
                        var job = job
                        job.confirmDevices = devices
                        return try await client.submit(job)
                    }
                    ids.append(accepted.id)
                }
            } else {
                let answer = try await confirming { devices in
                    try await client.submit(NewJobs(jobs: jobs, confirmDevices: devices))
                }
                ids = answer.items.map(\.id)
                problem = answer.items.lazy.compactMap(\.problem?.detail).first
            }
            submit.add(due.duration(to: .now))
        } catch {
            problem = "\(error)"
        }
        let accepted = ids.compactMap { $0 }
        state.withLock { state in
            for id in accepted { state.accepted[id] = due }
            state.refused += jobs.count - accepted.count
            state.firstProblem = state.firstProblem ?? problem
        }
        return ids.enumerated().compactMap { (first + $0.offset) % followEvery == 0 ? $0.element : nil }
    }

    /// Submits, and confirms how far it reaches where that is asked for: load is meant for all its targets.
    private func confirming<Answer>(_ submit: (Int?) async throws -> Answer) async throws -> Answer {
        do {
            return try await submit(nil)
        } catch let problem as Problem where problem.code == "confirmationRequired" {
            return try await submit(problem.devices)
        }
    }

    private func follow(_ ids: AsyncStream<JobID>) async {
        await withDiscardingTaskGroup { group in
            for await id in ids { group.addTask { await self.follow(id) } }
        }
    }

    /// Looks at a job until it has ended.
    private func follow(_ id: JobID) async {
        guard let due = state.withLock({ $0.accepted[id] }) else { return }
        var interval = Self.lookInterval.first
        while due.duration(to: .now) < settleMax, !Task.isCancelled {
            do {
                if try await client.job(id).state.isEnd { return settle.add(due.duration(to: .now)) }
                try await Task.sleep(for: interval)
            } catch {
                // A look that failed is repeated later; the pages at the end count what is missing.
                interval = Self.lookInterval.last
            }
            interval = min(interval * 5 / 4, Self.lookInterval.last)
        }
    }

    private struct Summary {
        var settled = 0
        var runs: [String: Int] = [:]
        var first = Instant(microseconds: .max)
        var last = Instant(microseconds: .min)
    }

    /// Pages through all jobs until each of ours has ended or time is up.
    private func sumUp() async throws -> Summary {
        let deadline = ContinuousClock.now + settleMax
        var open = state.withLock { Set($0.accepted.keys) }
        var summary = Summary()
        while true {
            guard let oldest = open.min() else { break }
            var cursor: String?
            repeat {
                let page = try await client.jobs(PageOptions(limit: Limits.page.upperBound, cursor: cursor))
                for job in page.items where job.state.isEnd && open.remove(job.id) != nil {
                    add(job, to: &summary)
                }
                cursor = page.items.last.map { $0.id < oldest } ?? true ? nil : page.next
            } while cursor != nil
            guard !open.isEmpty, ContinuousClock.now < deadline, !Task.isCancelled else { break }
            try await Task.sleep(for: .milliseconds(500))
        }
        let left = open.count
        state.withLock { $0.unsettled = left }
        return summary
    }

    private func add(_ job: Job, to summary: inout Summary) {
        summary.settled += 1
        for (name, count) in job.counts { summary.runs[name, default: 0] += count }
        guard let finishedAt = job.finishedAt else { return }
        server.add(finishedAt - job.createdAt)
        summary.first = min(summary.first, job.createdAt)
        summary.last = max(summary.last, finishedAt)
    }

    private func print(_ summary: Summary, submitSeconds: Duration) {
        let (accepted, refused, unsettled, problem) = state.withLock {
            ($0.accepted.count, $0.refused, $0.unsettled, $0.firstProblem)
        }
        let runs = summary.runs.values.reduce(0, +)
        printLine { writer in
            writer.field("summary", true)
            writer.field("accepted", accepted)
            writer.field("refused", refused)
            writer.field("settled", summary.settled)
            writer.field("unsettled", unsettled)
            writer.field("problem", problem)
            writer.field("runs", summary.runs)
            writer.field("submitSeconds", submitSeconds / .seconds(1))
            if summary.last > summary.first {
                let seconds = (summary.last - summary.first) / .seconds(1)
                writer.field("settledRunsPerSecond", (Double(runs) / seconds * 10).rounded() / 10)
            }
            submit.write("submitMilliseconds", to: &writer)
            settle.write("settleMilliseconds", to: &writer)
            server.write("serverSettleMilliseconds", to: &writer)
        }
    }
}
