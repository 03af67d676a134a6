import Domain
import Redis

/// A device and one of its lanes, in one word: what the limit of unsettled runs counts by. The device's id
/// comes first, so that a function finds its presence by the first 36 characters.
struct DeviceLane: Hashable {
    let device: DeviceID
    let lane: Lane

    init(device: DeviceID, lane: Lane) {
        self.device = device
        self.lane = lane
    }

    /// Reads `<device>/<lane>`; `nil` for anything else.
    init?(_ text: some StringProtocol) {
        let parts = text.split(separator: "/")
        guard parts.count == 2, let device = DeviceID(parts[0]), let number = Int16(parts[1]),
            let lane = Lane(rawValue: number)
        else { return nil }
        self.init(device: device, lane: lane)
    }

    var text: String { "\(device)/\(lane.rawValue)" }
}

extension RedisArgument {
    /// A device and its lane.
    static func place(_ place: DeviceLane) -> RedisArgument { .string(place.text) }
}
