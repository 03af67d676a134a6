import Domain

/// What devices and their agents do.
extension World {
    /// Takes one message in.
    func receive(_ device: Device) {
        guard let link = device.link, link.isServing, !link.toDevice.isEmpty else { return }
        switch link.toDevice.removeFirst() {
        case .dispatch(let name): accept(name, device, link)
        case .cancel(let name): cancel(name, device)
        case .drop(let name):
            if device.disk.journal[name] != .ended { device.note(name, .ended) }
        case .acknowledged(let name): device.disk.outbox[name] = nil
        }
    }

    private func accept(_ name: AttemptName, _ device: Device, _ link: Link) {
        if device.disk.tombstones.contains(name) {
            reach(.cancelOvertakesDispatch)
            if device.disk.journal[name] == nil { device.end(name, .cancelled) }
        } else if device.disk.journal[name] != nil {
            if let outcome = device.disk.outbox[name] { link.toGateway.append(.finished(name, outcome)) }
        } else if device.disk.journal.contains(where: { $0.key.run == name.run && $0.value != .ended }) {
            fail("a device got another attempt of a run that lives on it")
        } else {
            device.note(name, .accepted)
            link.toGateway.append(.accepted(position: device.disk.position))
        }
    }

    private func cancel(_ name: AttemptName, _ device: Device) {
        switch device.disk.journal[name] {
        case nil: device.disk.tombstones.insert(name)
        case .accepted?, .running?: device.end(name, .cancelled)
        case .ended?: break
        }
    }

    /// Starts what was accepted.
    func execute(_ device: Device) {
        guard let name = device.held(.accepted).first else { return }
        note("\(device.id.short) starts \(name.run.short)#\(name.attempt)")
        // A disk that was put back starts what it has forgotten to have started; no server can know.
        if executed.updateValue(Outcome?.none, forKey: name) != nil, !device.forgotten.contains(name) {
            fail("an attempt was started twice: \(name.run)")
        }
        guard let row = records.row(name.run) else { return fail("a run that nobody committed was started") }
        if !row.markedGenerations.isEmpty, row.machine.attempt >= name.attempt {
            if row.name == name, !row.machine.wasSent { fail("an attempt was started that was not sent") }
        } else {
            fail("an attempt was started that was not marked: \(name.run)")
        }
        if row.name?.attempt == name.attempt, row.name != name {
            fail("an attempt was started under another token: \(name.run)")
        }
        device.note(name, .running)
        device.link?.toGateway.append(.started(name, position: device.disk.position))
    }

    /// Ends what runs.
    func finish(_ device: Device) {
        guard let name = random.pick(device.held(.running)) else { return }
        let outcome: Outcome = random.chance(700) ? .succeeded : .failed
        executed.updateValue(outcome, forKey: name)
        note("\(device.id.short) finishes \(name.run.short)#\(name.attempt): \(outcome)")
        device.end(name, outcome)
    }

    func connect(_ device: Device, _ station: Station) {
        guard device.link == nil else { return }
        let link = Link(device, station)
        device.link = link
        for (name, outcome) in device.disk.outbox.sorted(by: { $0.key.run < $1.key.run }) {
            link.toGateway.append(.finished(name, outcome))
        }
        station.hellos.append(link)
    }

    /// Says hello again, as agents do at a slow interval.
    func repeatHello(_ device: Device) {
        guard let link = device.link, link.isServing, !link.gateway.repeated.contains(where: { $0 === link })
        else { return }
        hear(link.gateway, link)
        link.hello = device.hello
        link.gateway.repeated.append(link)
    }

    /// A connection that ended without a word is noticed.
    func noticeHalfOpen(_ station: Station) {
        guard !station.halfOpen.isEmpty else { return }
        let link = station.halfOpen.removeFirst()
        link.hasEnded = true
        station.ended.append(link)
    }

    /// The connection ends, and the gateway hears of it.
    func disconnect(_ device: Device) {
        guard let link = device.link else { return }
        device.link = nil
        (link.isLeft, link.hasEnded) = (true, true)
        (link.toDevice, link.toGateway) = ([], [])
        link.gateway.ended.append(link)
    }

    /// The connection ends, and the gateway does not hear of it.
    func goWithoutWord(_ device: Device) {
        guard let link = device.link else { return }
        note("\(device.id.short) is gone without a word")
        device.link = nil
        link.isLeft = true
        (link.toDevice, link.toGateway) = ([], [])
        link.gateway.halfOpen.append(link)
    }

    /// The disk is put back to a copy of it: only if the server has heard of more than the copy says, since
    /// otherwise nobody can know.
    func restore(_ device: Device) {
        guard device.link == nil, let copy = device.copy, copy.position < device.disk.position,
            positions[device.id] == device.disk.position
        else { return }
        device.forgotten.formUnion(device.disk.journal.keys)
        device.disk = copy
        note("\(device.id.short) is restored from a copy")
    }
}
