import Domain
import Engine
import Ledger
import Logging
import Streams
import Synchronization
import Trust

/// The heartbeat, and what happens when it has lapsed.
extension Gateway {
    /// The data set of each partition, as Redis has it now; none of one that does not answer.
    func epochs() async -> [Epoch?] {
        // Side by side: the wait for those that do not answer is part of the time between two beats.
        await withTaskGroup(of: (Int, Epoch?).self) { tasks in
            // Why one does not answer is in the log of whoever needs it.
            for part in front.parts { tasks.addTask { (part.number, try? await part.present()) } }
            var epochs = [Epoch?](repeating: nil, count: front.parts.count)
            for await (number, epoch) in tasks { epochs[number] = epoch }
            return epochs
        }
    }

    /// Beats, and takes a new incarnation when the beat has lapsed or a data set is another one.
    func beat(in first: [Epoch?]) async {
        var last = ContinuousClock.now
        var epochs = first
        // Stays until a new incarnation has been taken whole.
        var isStale = false
        while !Task.isCancelled {
            do {
                do {
                    if try await !beat(id, after: &last) { isStale = true }
                } catch {
                    // Lapsed for sure by now; in a cluster another incarnation's key lies elsewhere, perhaps.
                    guard .now - last > .milliseconds(Self.heartbeatMilliseconds) else { throw error }
                    isStale = true
                }
                let current = await self.epochs()
                for (index, part) in front.parts.enumerated() {
                    guard let epoch = current[index], epoch != epochs[index] else { continue }
                    // Before the first data set was seen nobody can have been noted in it.
                    if epochs[index] != nil || sessions.count > 0 { isStale = true }
                    epochs[index] = epoch
                    part.forgetEpoch()
                }
                if isStale, current.contains(where: { $0 != nil }) {
                    let (beaten, isWhole) = try await reincarnate(
                        besides: front.parts.indices.filter { current[$0] == nil })
                    last = beaten
                    // Partitions that do not answer are another data set when they do, or are told then.
                    if !isWhole {
                        for index in epochs.indices where current[index] == nil { epochs[index] = nil }
                    }
                    isStale = false
                }
            } catch {
                guard !Task.isCancelled else { return }
                logger.warning("heartbeat failed", metadata: ["gateway.id": "\(id)", "error": "\(error)"])
            }
            // Cancellation ends the wait early, which is what is wanted.
            try? await Task.sleep(for: .milliseconds(Self.heartbeatMilliseconds / 5))
        }
    }

    /// Takes a new incarnation: first says whom it holds, for until then those devices pass for unknown, then
    /// wakes their waiting runs. One part after the other, and beating in between, so that a gateway with
    /// many sessions neither floods the servers nor lapses over it.
    /// Sessions in partitions that do not answer are left out.
    /// - Returns: when it beat last, and whether all were told.
    private func reincarnate(
        besides silent: [Int]
    ) async throws -> (beaten: ContinuousClock.Instant, isWhole: Bool) {
        let old = id
        let new = GatewayID.new(at: .now())
        var last = ContinuousClock.now
        try await begin(new)
        incarnation.withLock { $0 = new }
        let all = sessions.all
        let divided = Dictionary(grouping: all) { front.part(of: $0.organization).number }
        var parts: [(number: Int, sessions: ArraySlice<Session>)] = []
        for (number, all) in divided where !silent.contains(number) {
            for start in stride(from: 0, to: all.count, by: 128) {
                parts.append((number, all[start..<min(start + 128, all.count)]))
            }
        }
        for (number, part) in parts {
            let named = part.map { (device: $0.device, session: $0.number) }
            let partition = front.parts[number]
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
            try await keepUp(new, &last)
        }
        // What lies in the old inbox was never sent; the reclaimer returns it.
        // Where that cannot be said the heartbeat has lapsed.
        try? await front.mail.beat(gateway: old, milliseconds: 1)
        for (_, part) in parts {
            let returned = try await ledger.reconnect(part.map { ($0.organization, $0.device) })
            await front.offer([], and: returned.map(\.queue))
            try await keepUp(new, &last)
        }
        logger.notice(
            "gateway took a new incarnation",
            metadata: ["gateway.id": "\(new)", "before": "\(old)", "sessions": "\(all.count)"])
        return (last, silent.isEmpty)
    }

    /// Beats between two parts; throws if the new incarnation has lapsed already.
    private func keepUp(_ id: GatewayID, _ last: inout ContinuousClock.Instant) async throws {
        guard try await beat(id, after: &last) else {
            throw GatewayError(.lapsed, "the heartbeat lapsed while the sessions were published")
        }
    }

    /// Beats; `false` if the incarnation had lapsed since the beat before.
    private func beat(_ id: GatewayID, after last: inout ContinuousClock.Instant) async throws -> Bool {
        // The heartbeat's time runs from when Redis gets it, which is not before this.
        let sent = ContinuousClock.now
        try await front.mail.beat(gateway: id, milliseconds: Self.heartbeatMilliseconds)
        defer { last = sent }
        return sent - last <= .milliseconds(Self.heartbeatMilliseconds)
    }

    static let heartbeatMilliseconds = 5_000
}
