import Domain
import Synchronization

/// What devices have said of their journals since it was written last: the highest position of each.
final class JournalPositions: Sendable {
    private let byDevice = Mutex<[DeviceID: (organization: OrganizationID, position: Int)]>([:])

    /// The position that is not written yet; 0 if there is none.
    subscript(device: DeviceID) -> Int { byDevice.withLock { $0[device]?.position ?? 0 } }

    /// What is to be written.
    var pending: [(organization: OrganizationID, device: DeviceID, position: Int)] {
        byDevice.withLock { $0.map { ($1.organization, $0, $1.position) } }
    }

    /// A device has said how far its journal goes.
    func note(_ position: Int, of device: DeviceID, _ organization: OrganizationID) {
        byDevice.withLock { devices in
            guard devices[device]?.position ?? -1 < position else { return }
            devices[device] = (organization, position)
        }
    }

    /// Positions up to these are written.
    func forget(_ written: [DeviceID: Int]) {
        byDevice.withLock { devices in
            for (device, position) in written where devices[device]?.position ?? .max <= position {
                devices[device] = nil
            }
        }
    }
}
