import Domain
import Synchronization

/// The sessions that this gateway holds, by device.
final class Sessions: Sendable {
    private let byDevice = Mutex<[DeviceID: Session]>([:])

    /// The session of a device.
    subscript(device: DeviceID) -> Session? { byDevice.withLock { $0[device] } }

    var all: [Session] { byDevice.withLock { Array($0.values) } }

    var count: Int { byDevice.withLock { $0.count } }

    /// Makes this the device's session, unless a later one is known; returns the one that has to go.
    func replace(with session: Session) -> Session? {
        byDevice.withLock { sessions in
            guard let before = sessions[session.device], before !== session else {
                sessions[session.device] = session
                return nil
            }
            if before.number > session.number { return session }
            sessions[session.device] = session
            return before
        }
    }

    /// Forgets a session; `false` if the device has another one by now.
    func remove(_ session: Session) -> Bool {
        byDevice.withLock { sessions in
            guard sessions[session.device] === session else { return false }
            sessions[session.device] = nil
            return true
        }
    }
}
