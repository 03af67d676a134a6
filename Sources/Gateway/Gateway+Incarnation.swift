import Domain
import Engine
import Ledger
import Logging
import Streams
import Synchronization
import Trust

/// The heartbeat, and what happens when it has lapsed.
extension Gateway {
    /// Beats, and takes a new incarnation when the beat has lapsed or the data set is another one.
    func beat(in first: Epoch?) async {
        var last = ContinuousClock.now
        var epoch = first
        // Stays until a new incarnation has been taken whole.
        var isStale = false
        while !Task.isCancelled {
            do {
                // The heartbeat's time runs from when Redis gets it, which is not before this.
                let sent = ContinuousClock.now
                try await front.queue.beat(gateway: id, milliseconds: Self.heartbeatMilliseconds)
                if sent - last > .milliseconds(Self.heartbeatMilliseconds) { isStale = true }
                last = sent
                let current = try await front.queue.epoch()
                if let current, current != epoch {
                    // Before the first data set was seen nobody can have been noted in it.
                    if epoch != nil || sessions.count > 0 { isStale = true }
                    epoch = current
                    front.forgetEpoch()
                }
                if isStale, current != nil {
                    last = try await reincarnate()
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
    /// - Returns: when it beat last.
    private func reincarnate() async throws -> ContinuousClock.Instant {
        let old = id
        let new = GatewayID.new(at: .now())
        var last = ContinuousClock.now
        try await begin(new)
        incarnation.withLock { $0 = new }
        let all = sessions.all
        let parts = stride(from: 0, to: all.count, by: 128).map { all[$0..<min($0 + 128, all.count)] }
        for part in parts {
            let kept = try await front.call { epoch in
                try await self.front.queue.republish(
                    part.map { (device: $0.device, session: $0.number) }, gateway: new, epoch: epoch)
            }
            // A later session of the device is known elsewhere: the one here is a leftover.
            for (session, isKept) in zip(part, kept) where !isKept { session.close(.superseded) }
            // One that ended meanwhile took itself back from the incarnation before.
            for session in part where session.hasEnded {
                _ = try await front.call { epoch in
                    try await self.front.queue.absent(
                        device: session.device, gateway: new, session: session.number, epoch: epoch)
                }
            }
            try await beat(new, after: &last)
        }
        // What lies in the old inbox was never sent; the reclaimer returns it.
        try await front.queue.beat(gateway: old, milliseconds: 1)
        for part in parts {
            let returned = try await ledger.reconnect(part.map { ($0.organization, $0.device) })
            await front.offer([], and: returned.map(\.organization))
            try await beat(new, after: &last)
        }
        logger.notice(
            "gateway took a new incarnation",
            metadata: ["gateway.id": "\(new)", "before": "\(old)", "sessions": "\(all.count)"])
        return last
    }

    /// Beats; throws if the incarnation has lapsed since the beat before.
    private func beat(_ id: GatewayID, after last: inout ContinuousClock.Instant) async throws {
        // The heartbeat's time runs from when Redis gets it, which is not before this.
        let sent = ContinuousClock.now
        try await front.queue.beat(gateway: id, milliseconds: Self.heartbeatMilliseconds)
        guard sent - last <= .milliseconds(Self.heartbeatMilliseconds) else {
            throw GatewayError(.lapsed, "the heartbeat lapsed while the sessions were published")
        }
        last = sent
    }

    static let heartbeatMilliseconds = 5_000
}
