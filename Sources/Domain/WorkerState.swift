/// Where a role of a process is, as others see it.
package enum WorkerState: String, Sendable, CaseIterable {
    /// It works.
    case running
    /// It was told to drain and still holds something.
    case draining
    /// It holds nothing and claims nothing: it may be stopped.
    case drained
    /// It ended in order.
    case stopped
    /// It has not been heard for 15 s and did not say that it ends.
    case lost
}
