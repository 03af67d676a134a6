import Domain
import Engine
import Faults
import Ledger
import Logging
import Streams
import Trust
import Wire

/// From the inbox to the devices.
extension Gateway {
    func deliver() async {
        var reading = id
        var last = "0"
        while !Task.isCancelled {
            if reading != id { (reading, last) = (id, "0") }
            do {
                let letters = try await front.mail.inbox(
                    gateway: reading, after: last, count: 64, wait: .milliseconds(500), on: inbox)
                guard let newest = letters.last else { continue }
                FaultPoint.reach(.gatewayAfterRead)
                let readable = letters.compactMap { InboxLetter($0.payload) }
                if readable.count < letters.count {
                    logger.error(
                        "letters of another release are left to their deadlines",
                        metadata: ["letters": "\(letters.count - readable.count)"])
                }
                try await handle(readable)
                try await front.mail.discard(gateway: reading, letters.map(\.id))
                last = newest.id
            } catch {
                guard !Task.isCancelled else { return }
                logger.warning("delivery goes on after an error", metadata: ["error": "\(error)"])
                // Cancellation ends the wait early, which is what is wanted.
                try? await Task.sleep(for: .milliseconds(200))
            }
        }
    }

    private func handle(_ letters: [InboxLetter]) async throws {
        var items: [InboxLetter.Item] = []
        for letter in letters {
            switch letter {
            case .dispatch(let dispatched): items += dispatched
            case .cancel(let items):
                for item in items {
                    sessions[item.device]?.send([
                        .cancel(AttemptName(run: item.run, attempt: item.attempt, token: item.token))
                    ])
                }
            case .end(let devices): end(devices.compactMap { sessions[$0] })
            }
        }
        guard !items.isEmpty else { return }
        let (here, gone) = try await divide(items)
        try await take(here)
        guard !gone.isEmpty else { return }
        await withdrawPresence(
            of: Dictionary(gone.map { ($0.device, $0.organization) }) { first, _ in first })
        await front.returned(try await ledger.undeliver(gone.map { ($0.organization, $0.run, $0.token) }))
    }

    private func take(_ here: [InboxLetter.Item]) async throws {
        guard !here.isEmpty else { return }
        // Noted as sent and committed before it is: a crash in between repeats the same attempt at the next
        // hello. What is to be sent is read meanwhile.
        async let contents = contents.contents(of: here.map { ($0.organization, $0.job) })
        let taken = try await ledger.take(here.map { ($0.organization, $0.run, $0.token) })
        send(taken, try await contents)
        FaultPoint.reach(.gatewayAfterSend)
    }

    /// Which of these attempts are for a device whose session is here.
    ///
    /// A session that the queue knows a later one of is half-open: its device has gone to another gateway,
    /// whose hello may have been answered before this attempt was marked. What were sent here would be heard
    /// by nobody. If the later session comes after this look, its hello finds the attempt. A partition that
    /// does not answer must not hold up the others' letters: there the session here is believed.
    private func divide(
        _ items: [InboxLetter.Item]
    ) async throws -> (here: [InboxLetter.Item], gone: [InboxLetter.Item]) {
        let presences = try await front.knownPresence(of: items.map { ($0.organization, $0.device) })
        var (here, gone): ([InboxLetter.Item], [InboxLetter.Item]) = ([], [])
        for (item, presence) in zip(items, presences) {
            let session = sessions[item.device]
            // A new data set may not know any session yet.
            let isHere = session.map { $0.number >= presence?.session ?? 0 } ?? false
            if isHere { here.append(item) } else { gone.append(item) }
        }
        return (here, gone)
    }

    /// Presence that still names this gateway for devices that it does not hold, as when its withdrawal was
    /// lost. Where that cannot be said it is tried at the next letter for such a device.
    private func withdrawPresence(of devices: [DeviceID: OrganizationID]) async {
        let places = devices.map { ($0.value, $0.key) }
        do {
            for ((organization, device), presence) in zip(places, try await front.knownPresence(of: places)) {
                guard let presence, presence.gateway == id, sessions[device] == nil else { continue }
                let part = front.part(of: organization)
                _ = try await part.call { epoch in
                    try await part.queue.absent(
                        device: device, gateway: presence.gateway, session: presence.session, epoch: epoch)
                }
            }
        } catch {
            logger.debug("presence of devices that are gone stays", metadata: ["error": "\(error)"])
        }
    }

    /// Sends attempts to their devices' sessions, or to the one that is given; those whose jobs name secrets
    /// wait for them first. An agent that cannot be given any refuses the job by its statement.
    func send(
        _ deliveries: [Delivery], _ contents: [JobID: JobContents.Content], to session: Session? = nil,
        secrets: [RunID: [[UInt8]]] = [:]
    ) {
        var (frames, sent) = ([DeviceID: [GatewayFrame]](), 0)
        for delivery in deliveries {
            guard let content = contents[delivery.job] else { continue }
            let name = AttemptName(run: delivery.run, attempt: delivery.attempt, token: delivery.token)
            let session = session ?? sessions[delivery.device]
            if delivery.cancelRequested { frames[delivery.device, default: []].append(.cancel(name)) }
            if content.hasSecrets, secrets[delivery.run] == nil, session?.features.contains(.secrets) == true
            {
                awaitSecrets(of: delivery)
                continue
            }
            let leaf = delivery.leaf
            var dispatch = Dispatch(
                name: name, job: content.statement, leafIndex: leaf,
                proof: leaf.map { leaf in content.tree?.proof(of: leaf) ?? [] })
            if session?.features.contains(.secrets) == true {
                dispatch.secrets = secrets[delivery.run].map { $0.map(Base64Bytes.init) }
            }
            if session?.features.contains(.traces) == true { dispatch.trace = content.trace }
            frames[delivery.device, default: []].append(.dispatch(dispatch))
            note(delivery, content.trace)
            sent += 1
        }
        for (device, frames) in frames {
            guard let session = session ?? sessions[device] else { continue }
            send(frames, to: session)
        }
        counters.increment("dispatched", by: sent)
    }

    /// Sends work, behind the key set that says by whom it may be signed: also where the welcome, which may
    /// have been put together before, is still to come. An agent that takes none by itself is to say hello
    /// again once it is served: what is sent to it then follows the welcome that has it.
    private func send(_ frames: [GatewayFrame], to session: Session) {
        if session.features.contains(.statements) {
            session.send(frames, behind: keySet.newest)
        } else if session.isServing, keySet.newer(than: session.keySetVersion) != nil {
            session.close(.newerKeys)
        } else {
            session.send(frames)
        }
    }
}
