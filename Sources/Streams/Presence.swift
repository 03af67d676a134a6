package import Domain
import Redis

/// Who holds a device: valid while that gateway's heartbeat lives.
package struct Presence: Sendable, Hashable {
    /// The gateway's incarnation.
    package let gateway: GatewayID
    /// The session's number; a later session has a higher one, on any gateway.
    package let session: Int

    /// A session on a gateway.
    package init(gateway: GatewayID, session: Int) {
        self.gateway = gateway
        self.session = session
    }

    /// Reads "gateway session"; `nil` for anything else.
    init?(_ value: RedisValue) {
        guard case .string(let bytes) = value, bytes.count > 37, bytes[36] == UInt8(ascii: " "),
            let gateway = GatewayID(text: bytes.span.extracting(..<36)),
            let session = Int(String(decoding: bytes[37...], as: UTF8.self))
        else { return nil }
        self.init(gateway: gateway, session: session)
    }
}

extension Queue {
    /// Says that a gateway holds a device from now on, and returns the number of the session.
    package func present(device: DeviceID, gateway: GatewayID, epoch: Epoch) async throws -> Int {
        guard let session = try await present([device], gateway: gateway, epoch: epoch).first else {
            throw QueueError.refused("a function answered no session")
        }
        return session
    }

    /// Says that a gateway holds these devices from now on; returns their session numbers in the same order.
    package func present(_ devices: [DeviceID], gateway: GatewayID, epoch: Epoch) async throws -> [Int] {
        try await call("present", epoch: epoch, slicing: devices) { [.id(gateway)] + $0.map { .id($0) } }
            .flatMap { try $0.elements().map { try $0.number() } }
    }

    /// Says again who holds devices, with the numbers that the sessions have, as after a lost data set. False
    /// where a later session of the device is known: the one named is a leftover.
    package func republish(
        _ sessions: [(device: DeviceID, session: Int)], gateway: GatewayID, epoch: Epoch
    ) async throws -> [Bool] {
        try await call("republish", epoch: epoch, slicing: sessions) { slice in
            [.id(gateway)] + slice.flatMap { [.id($0.device), .int($0.session)] }
        }
        .flatMap { try $0.elements().map { $0.int == 1 } }
    }

    /// Says that a session has ended; false, and nothing changes, if the device has another one by now.
    @discardableResult
    package func absent(device: DeviceID, gateway: GatewayID, session: Int, epoch: Epoch) async throws -> Bool
    {
        try await call("absent", epoch: epoch, [.id(device), .id(gateway), .int(session)]).int == 1
    }

    /// Who holds each of these devices, in the same order, and the identity of the data set that says so.
    package func presence(
        of devices: [DeviceID], within limit: Duration
    ) async throws -> (held: [Presence?], epoch: Epoch?) {
        // A command of more fields holds up the server.
        let slices = stride(from: 0, to: devices.count, by: 1_000).map {
            presenceCommand(devices[$0..<min($0 + 1_000, devices.count)])
        }
        // The epoch last: what was answered before is of this data set or of one that is lost.
        var replies = try await connection.send(
            slices + [RedisCommand("GET", .string(keys.key("epoch")))], timeout: limit
        ).map { try $0.get() }
        let epoch = replies.removeLast().text.map(Epoch.init)
        return (try replies.flatMap { try $0.elements().map(Presence.init) }, epoch)
    }

    /// Who holds each of these devices, in the same order.
    package func presence(of devices: [DeviceID], within limit: Duration? = nil) async throws -> [Presence?] {
        guard !devices.isEmpty else { return [] }
        return try await send(presenceCommand(devices[...]), within: limit).elements().map(Presence.init)
    }

    private func presenceCommand(_ devices: ArraySlice<DeviceID>) -> RedisCommand {
        RedisCommand(
            "HMGET", arguments: [.string(keys.key("presence"))] + devices.map { RedisArgument.id($0) })
    }
}
