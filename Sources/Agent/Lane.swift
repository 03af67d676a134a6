/// One of the device's lanes: so many at a time, a bounded queue behind them, first come first served. Pure.
struct Lane<Element: Equatable & Sendable>: Sendable, Equatable {
    /// What became of something that asked to be let in.
    enum Admission: Sendable, Equatable { case start, wait }

    let concurrencyMax: Int
    let queueMax: Int
    private(set) var running = 0
    private(set) var queue: [Element] = []

    init(concurrencyMax: Int, queueMax: Int) {
        self.concurrencyMax = concurrencyMax
        self.queueMax = queueMax
    }

    /// How many may be in the lane at a time.
    var capacity: Int { concurrencyMax + queueMax }

    /// Lets an element run or wait; the caller has seen to it that there is room.
    mutating func admit(_ element: Element) -> Admission {
        guard running >= concurrencyMax else {
            running += 1
            return .start
        }
        queue.append(element)
        return .wait
    }

    /// One of the running has ended; the one that runs instead.
    mutating func release() -> Element? {
        guard !queue.isEmpty else {
            running -= 1
            return nil
        }
        return queue.removeFirst()
    }

    /// Takes an element out of the queue; false if it does not wait there.
    mutating func withdraw(_ element: Element) -> Bool {
        guard let index = queue.firstIndex(of: element) else { return false }
        queue.remove(at: index)
        return true
    }
}
