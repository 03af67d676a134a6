/// Which connections carry a transaction and who waits for one: pure, first come, first served.
struct Leases {
    /// Where a transaction gets its connection from.
    enum Grant {
        case connection(Connection)
        /// A new one, which this call has counted.
        case open
        case wait(Pending<Connection>)
        case closed
    }

    private let connectionsMax: Int
    private var idle: [Connection] = []
    private var waiting: ArraySlice<Pending<Connection>> = []
    private var isClosed = false
    /// Every connection ever opened; they are kept until the pool closes.
    private(set) var all: [Connection] = []

    init(connectionsMax: Int) { self.connectionsMax = connectionsMax }

    /// How many transactions wait for a connection.
    var waitingCount: Int { waiting.count }

    mutating func take() -> Grant {
        if isClosed { return .closed }
        if let connection = idle.popLast() { return .connection(connection) }
        if all.count < connectionsMax { return .open }
        waiting.removeAll(where: \.isSettled)
        let place = Pending<Connection>()
        waiting.append(place)
        return .wait(place)
    }

    mutating func opened(_ connection: Connection) { all.append(connection) }

    /// Takes a connection back and gives it to the first that still waits; true if it is to be closed
    /// instead.
    mutating func giveBack(_ connection: Connection) -> Bool {
        while let place = waiting.popFirst() {
            if place.settle({ .success(connection) }) { return false }
        }
        idle.append(connection)
        return isClosed
    }

    /// Grants no more; returns the idle connections, which are to be closed, and fails those who wait.
    mutating func close() -> [Connection] {
        isClosed = true
        for place in waiting { place.settle { .failure(PostgresError(.closed, "the pool was closed")) } }
        waiting = []
        return idle
    }
}
