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
                if try await !beat(id, after: &last) { isStale = true }
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
            let named = part.map { (device: $0.device, session: $0.number) }
            let kept = try await front.call { epoch in
                try await self.front.queue.republish(named, gateway: new, epoch: epoch)
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
        try await front.queue.beat(gateway: old, milliseconds: 1)
        for part in parts {
            let returned = try await ledger.reconnect(part.map { ($0.organization, $0.device) })
            await front.offer([], and: returned.map(\.queue))
            try await keepUp(new, &last)
        }
        logger.notice(
            "gateway took a new incarnation",
            metadata: ["gateway.id": "\(new)", "before": "\(old)", "sessions": "\(all.count)"])
        return last
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
        try await front.queue.beat(gateway: id, milliseconds: Self.heartbeatMilliseconds)
        defer { last = sent }
        return sent - last <= .milliseconds(Self.heartbeatMilliseconds)
    }

    static let heartbeatMilliseconds = 5_000
}
