import Domain
import Ledger
import Synchronization

/// What devices have said of their journals and is not written yet: the furthest place of each.
final class JournalPlaces: Sendable {
    private let byDevice = Mutex<[DeviceID: (organization: OrganizationID, place: JournalPlace)]>([:])

    /// The place that is not written yet, if there is one.
    subscript(device: DeviceID) -> JournalPlace? { byDevice.withLock { $0[device]?.place } }

    /// What is to be written.
    var pending: [(organization: OrganizationID, device: DeviceID, place: JournalPlace)] {
        byDevice.withLock { $0.map { ($1.organization, $0, $1.place) } }
    }

    /// A device has said how far its journal is.
    func note(_ place: JournalPlace, of device: DeviceID, _ organization: OrganizationID) {
        byDevice.withLock { devices in
            if let known = devices[device]?.place, known >= place { return }
            devices[device] = (organization, place)
        }
    }

    /// These are written, or count for nothing any more.
    func forget(_ written: [DeviceID: JournalPlace]) {
        byDevice.withLock { devices in
            for (device, place) in written {
                if let known = devices[device]?.place, known <= place { devices[device] = nil }
            }
        }
    }
}
