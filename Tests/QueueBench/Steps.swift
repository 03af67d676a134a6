import Domain
import Engine
import Foundation
import Ledger
import Redis
import Streams
import Synchronization
import Trust

/// The steps of a dispatcher one by one, so that they can be timed, or taken without those before them: the
/// same statements and commands as the product's dispatcher has for runs whose devices are connected.
struct Steps: Sendable {
    let bed: Bed

    /// When a batch had passed each step.
    struct Times: Sendable {
        /// When the dispatcher was free to go for the batch.
        var free = ContinuousClock.now
        var claimed: ContinuousClock.Instant
        var marked = ContinuousClock.now
        var delivered = ContinuousClock.now
    }

    /// Marks runs whose gateways are alive, and puts what passed into the inboxes.
    func pass(
        _ runs: [(organization: OrganizationID, run: RunID, generation: Int, gateway: GatewayID)],
        claimed: ContinuousClock.Instant
    ) async throws -> (marked: [MarkedRun], times: Times) {
        let alive = try await bed.queue.alive(Array(Set(runs.map(\.gateway))))
        let now = Instant.now()
        let marked = try await bed.worker.mark(
            runs.filter { alive.contains($0.gateway) }.map {
                MarkRequest(
                    organization: $0.organization, run: $0.run, generation: $0.generation,
                    gateway: $0.gateway, token: .new(at: now))
            }, epoch: bed.front.epoch().id, partition: 0)
        var times = Times(claimed: claimed)
        let letters = Dictionary(grouping: marked, by: \.gateway).map { gateway, runs in
            Letter(
                gateway: gateway,
                payload: InboxLetter.dispatch(
                    runs.map {
                        InboxLetter.Item(
                            organization: $0.organization, job: $0.job, run: $0.run, device: $0.device,
                            attempt: $0.attempt, token: $0.token)
                    }
                ).encoded)
        }
        _ = try await bed.queue.deliver(letters)
        times.delivered = .now
        return (marked, times)
    }

    /// Dispatches as the product does until cancelled; says when it is free for a batch, and when each run
    /// passed which step.
    func dispatch(
        owner: String, isFree: @Sendable (ContinuousClock.Instant) -> Void = { _ in },
        note: @Sendable ([RunID], Times) -> Void
    ) async throws {
        let bell = try bed.blocking()
        while !Task.isCancelled {
            do {
                let epoch = try await bed.front.epoch()
                let free = ContinuousClock.now
                isFree(free)
                let claims = try await bed.queue.claim(
                    owner: owner, limit: 128, leaseMilliseconds: 5_000, epoch: epoch)
                let claimed = ContinuousClock.now
                for items in Dispatcher.passes(claims.items) where !items.isEmpty {
                    let present = items.compactMap { claim in
                        claim.presence.map { (claim.organization, claim.run, claim.generation, $0.gateway) }
                    }
                    var (marked, times) = try await pass(present, claimed: claimed)
                    times.free = free
                    note(marked.map(\.run), times)
                    _ = try await bed.queue.acknowledge(
                        dispatched: items, dropped: [],
                        deadlineMilliseconds: Int(Instant.now().microseconds / 1_000) + 120_000, epoch: epoch)
                    bed.front.parts[0].refill.call()
                }
                if !claims.more { _ = try await bed.queue.waitForBell(on: bell) }
            } catch {
                guard !Task.isCancelled else { break }
                throw error
            }
        }
        await bell.close()
    }
}

/// When each run passed which step.
private final class Noted: Sendable {
    let times = Mutex<[RunID: Steps.Times]>([:])
}

extension Measure {
    /// From a submission to its arrival in the inbox, at a rate. With `steps=1` a dispatcher of the bench
    /// says where the time went.
    func latency() async throws {
        let (rate, duration) = (value("rate", 100), value("seconds", 10))
        let tenant = try await bed.tenants(1, devices: rate * duration)[0]
        let sink = try await Sink(bed, holding: tenant.devices)
        for device in tenant.devices { sink.watch(device) }
        let noted = Noted()
        let isTimed = value("steps", 0) == 1
        let submitted =
            isTimed
            ? try await timing(
                sink,
                note: { runs, times in
                    noted.times.withLock { noted in for run in runs { noted[run] = times } }
                }
            ) { try await submit(to: tenant, rate: rate, until: sink) }
            : try await running(sink) { try await submit(to: tenant, rate: rate, until: sink) }
        let timed = submitted.compactMap { item -> (item: Submitted, arrived: ContinuousClock.Instant)? in
            sink.arrivals(item.device).first.map { (item, $0) }
        }
        var result = Self.percentiles(timed.map { ($0.arrived - $0.item.due) / .milliseconds(1) })
        let later = timed.dropFirst(rate)
        for (name, value) in Self.percentiles(later.map { ($0.arrived - $0.item.due) / .milliseconds(1) }) {
            result["later_\(name)"] = value
        }
        if isTimed {
            let times = noted.times.withLock(\.self)
            result.merge(Self.parts(Array(later), times)) { $1 }
            let claimed = later.compactMap { timed in
                times[timed.item.run].map { ($0.claimed - timed.item.due) / .milliseconds(1) }
            }
            for (name, value) in Self.percentiles(claimed) { result["claimed_\(name)"] = value }
        }
        say(result)
    }

    /// Runs a body beside workers whose dispatchers are timed, and a sink.
    func timing<Value: Sendable>(
        _ sink: Sink, isFree: @escaping @Sendable (ContinuousClock.Instant) -> Void = { _ in },
        note: @escaping @Sendable ([RunID], Steps.Times) -> Void = { _, _ in },
        _ body: @escaping @Sendable () async throws -> Value
    ) async throws -> Value {
        try await running(sink, dispatchers: 0) {
            try await withThrowingTaskGroup(of: Value?.self) { group in
                for number in 0..<3 {
                    group.addTask {
                        try await Steps(bed: bed).dispatch(
                            owner: "bench.\(number)", isFree: isFree, note: note)
                        return nil
                    }
                }
                group.addTask { try await body() }
                defer { group.cancelAll() }
                while let value = try await group.next() {
                    if let value { return value }
                }
                throw BenchError("the body did not return")
            }
        }
    }

    /// A run that was submitted: when it was due, when that began, was committed, and was offered.
    private struct Submitted: Sendable {
        let device: DeviceID
        let run: RunID
        let due: ContinuousClock.Instant
        let began: ContinuousClock.Instant
        let committed: ContinuousClock.Instant
        let offered: ContinuousClock.Instant
    }

    private func submit(to tenant: BenchTenant, rate: Int, until sink: Sink) async throws -> [Submitted] {
        let first = ContinuousClock.now
        // One at a time or, with open=1, each when it is due, as callers who know nothing of each other do.
        let isOpen = value("open", 1) == 1
        @Sendable func submit(_ index: Int) async throws -> Submitted {
            let due = first + .seconds(1) * Double(index) / Double(rate)
            try await Task.sleep(until: due, clock: .continuous)
            let began = ContinuousClock.now
            let device = tenant.devices[index]
            let runs = try await bed.api.submit(
                [tenant.job([device])], scope: .organization(tenant.organization)
            ).queued
            let committed = ContinuousClock.now
            await bed.front.offer(runs)
            return Submitted(
                device: device, run: runs[0].run, due: due, began: began, committed: committed, offered: .now)
        }
        var submitted: [Submitted] = []
        if isOpen {
            submitted = try await withThrowingTaskGroup(of: Submitted.self) { group in
                for index in tenant.devices.indices { group.addTask { try await submit(index) } }
                return try await group.reduce(into: []) { $0.append($1) }
            }
            submitted.sort { $0.due < $1.due }
        } else {
            for index in tenant.devices.indices { submitted.append(try await submit(index)) }
        }
        try await wait(for: [sink], total: tenant.devices.count)
        return submitted
    }

    /// The mean time in each step, of all and of the slowest hundredth.
    private static func parts(
        _ timed: [(item: Submitted, arrived: ContinuousClock.Instant)], _ noted: [RunID: Steps.Times]
    ) -> [String: Double] {
        let parts = timed.compactMap { item, arrived -> [(String, Duration)]? in
            guard let times = noted[item.run] else { return nil }
            return [
                ("wake", item.began - item.due), ("commit", item.committed - item.began),
                // A claim may come before the answer to the offer.
                ("offerToClaim", times.claimed - item.committed), ("mark", times.marked - times.claimed),
                ("deliver", times.delivered - times.marked), ("arrive", arrived - times.delivered),
                ("total", arrived - item.due),
            ]
        }.sorted { $0.last!.1 < $1.last!.1 }
        var result: [String: Double] = [:]
        let slowest = parts.suffix(max(1, parts.count / 100))
        for (name, some) in [("mean", parts[...]), ("slowest", slowest)] {
            for place in parts.first?.indices ?? 0..<0 {
                let sum = some.reduce(0) { $0 + $1[place].1 / .milliseconds(1) }
                result["\(name)_\(parts[0][place].0)"] = sum / Double(some.count)
            }
        }
        if ProcessInfo.processInfo.environment["QUEUE_BENCH_SLOWEST"] != nil {
            for part in slowest {
                let words = part.map { "\($0.0) \(String(format: "%.2f", $0.1 / .milliseconds(1)))" }
                print("slow: \(words.joined(separator: ", "))")
            }
        }
        return result
    }
}
