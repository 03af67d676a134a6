import Process
import Synchronization

/// TCP ports of the loopback for servers of a test's own.
package enum LoopbackPorts {
    private static let given = Mutex<Set<Int>>([])

    /// Different ports that were free a moment ago, and with each the one 10,000 higher, where nodes of a
    /// cluster talk to each other. None is given twice in a process, and none is of those that the system
    /// takes for connections that go out, from 32,768 on.
    package static func free(_ count: Int) -> [Int] {
        var ports: Set<Int> = []
        while ports.count < count {
            let port = Int.random(in: 20_000..<22_700)
            guard given.withLock({ $0.insert(port).inserted }) else { continue }
            if LocalPort.isFree(port), LocalPort.isFree(port + 10_000) { ports.insert(port) }
        }
        return ports.sorted()
    }
}
