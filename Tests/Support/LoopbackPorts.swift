import Process

/// TCP ports of the loopback for servers of a test's own.
package enum LoopbackPorts {
    /// Different ports that were free a moment ago, and with each the one 10,000 higher, where nodes of a
    /// cluster talk to each other.
    package static func free(_ count: Int) -> [Int] {
        var ports: Set<Int> = []
        while ports.count < count {
            let port = Int.random(in: 20_000..<30_000)
            if LocalPort.isFree(port), LocalPort.isFree(port + 10_000) { ports.insert(port) }
        }
        return ports.sorted()
    }
}
