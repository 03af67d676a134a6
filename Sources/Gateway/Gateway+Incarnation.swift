import Domain
import Engine
import Ledger
import Logging
import Redis
import Streams
import Synchronization
import Trust

/// The heartbeat, and what happens when it has lapsed.
///
/// Beats go out at their own pace. Each partition is asked for its data set at a pace of its own too, so that
/// one that hangs holds up neither the beats nor the others.
extension Gateway {
    /// Asks each partition for its data set, before anybody is noted in one.
    func lookAround() async {
        await withTaskGroup(of: Void.self) { tasks in
            for part in front.parts { tasks.addTask { await self.look(at: part) } }
        }
    }

    /// Beats, watches the partitions, and takes a new incarnation when the beat has lapsed or a data set is
    /// another one.
    func live() async {
        await withTaskGroup(of: Void.self) { tasks in
            tasks.addTask { await self.steadily { await self.beat() } }
            for part in front.parts { tasks.addTask { await self.steadily { await self.look(at: part) } } }
            tasks.addTask {
                for await _ in self.staleness { await self.renew() }
            }
        }
    }

    /// Repeats a step five times in the life of a heartbeat until the task is cancelled.
    private func steadily(_ step: () async -> Void) async {
        while !Task.isCancelled {
            await step()
            // Cancellation ends the wait early, which is what is wanted.
            try? await Task.sleep(for: Self.pace)
        }
    }

    private func beat() async {
        let (id, sent) = (id, ContinuousClock.now)
        do {
            let wasAlive = try await front.mail.beat(
                gateway: id, milliseconds: Self.heartbeatMilliseconds)
            pulse.withLock { $0.beat(id, sent: sent, wasAlive: wasAlive) }
        } catch {
            guard !Task.isCancelled else { return }
            logger.warning("heartbeat failed", metadata: ["gateway.id": "\(id)", "error": "\(error)"])
            pulse.withLock { $0.missed(id, at: .now) }
        }
        tellIfStale()
    }

    private func look(at part: QueuePart) async {
        // Why it does not answer is in the log of whoever needs it.
        let epoch = try? await part.present(within: Self.pace)
        let hasSessions = sessions.count > 0
        if pulse.withLock({ $0.hear(epoch, from: part.number, hasSessions: hasSessions) }) {
            part.forgetEpoch()
        }
        tellIfStale()
    }

    private func tellIfStale() {
        if pulse.withLock({ $0.due != nil }) { stale.yield() }
    }

    private func renew() async {
        guard let silent = pulse.withLock({ $0.due }) else { return }
        do {
            try await reincarnate(besides: silent)
        } catch {
            // A later beat or look finds it stale, and it is tried again.
            pulse.withLock { $0.failed() }
            guard !Task.isCancelled else { return }
            logger.warning(
                "no new incarnation could be taken", metadata: ["gateway.id": "\(id)", "error": "\(error)"])
            // Each attempt may leave a row. Cancellation ends the wait early, which is what is wanted.
            try? await Task.sleep(for: Self.pace)
        }
    }

    /// Takes a new incarnation: first says whom it holds, for until then those devices pass for unknown, then
    /// wakes their waiting runs. In each partition one part after the other, so that a gateway with many
    /// sessions does not flood the servers; partitions side by side, so that one that hangs holds up no
    /// other. Sessions in partitions that do not answer are left out: they are told when these do.
    private func reincarnate(besides silent: Set<Int>) async throws {
        let old = id
        let new = GatewayID.new(at: .now())
        let sent = ContinuousClock.now
        try await begin(new)
        pulse.withLock { $0.begin(new, sent: sent) }
        let all = sessions.all
        var untold = silent
        try await withThrowingTaskGroup(of: (Int, isTold: Bool).self) { tasks in
            for (number, held) in Dictionary(grouping: all, by: { front.part(of: $0.organization).number })
            where !silent.contains(number) {
                tasks.addTask { (number, try await self.tell(held, in: self.front.parts[number], as: new)) }
            }
            for try await (number, isTold) in tasks where !isTold { untold.insert(number) }
        }
        pulse.withLock { [untold] in $0.untold(untold) }
        // What lies in the old inbox was never sent; the reclaimer returns it.
        // Where that cannot be said the heartbeat has lapsed.
        _ = try? await front.mail.beat(gateway: old, milliseconds: 1)
        logger.notice(
            "gateway took a new incarnation",
            metadata: [
                "gateway.id": "\(new)", "before": "\(old)", "sessions": "\(all.count)",
                "partitions.untold": "\(untold.count)",
            ])
    }

    /// Says whom it holds of a partition's devices, and wakes their runs; `false` if the partition does not
    /// take it.
    private func tell(_ held: [Session], in partition: QueuePart, as new: GatewayID) async throws -> Bool {
        let parts = stride(from: 0, to: held.count, by: 128).map { held[$0..<min($0 + 128, held.count)] }
        do {
            for part in parts { try await republish(part, in: partition, as: new) }
        } catch let error where error is RedisError || error is QueueError {
            logger.debug(
                "a partition was not told of sessions",
                metadata: ["partition": "\(partition.number)", "error": "\(error)"])
            return false
        }
        for part in parts {
            let returned = try await ledger.reconnect(part.map { ($0.organization, $0.device) })
            await front.offer([], and: returned.map(\.queue))
        }
        return true
    }

    private func republish(
        _ part: ArraySlice<Session>, in partition: QueuePart, as new: GatewayID
    ) async throws {
        let named = part.map { (device: $0.device, session: $0.number) }
        let kept = try await partition.call { epoch in
            try await partition.queue.republish(named, gateway: new, epoch: epoch)
        }
        for (session, (said, isKept)) in zip(part, zip(named, kept)) {
            // A later session of the device is known elsewhere: the one here is a leftover, unless it is
            // about to get that later number.
            if !isKept, session.number == said.session { session.close(.superseded) }
            // One that ended meanwhile took itself back from the incarnation before.
            if session.hasEnded { try await withdraw(session, from: new) }
        }
    }

    static let heartbeatMilliseconds = 5_000
    private static let pace = Duration.milliseconds(heartbeatMilliseconds / 5)
}
