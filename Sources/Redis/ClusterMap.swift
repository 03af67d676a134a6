/// Which node of a cluster serves which of the 16,384 slots, as one node told it, and what others said since;
/// pure.
struct ClusterMap: Sendable, Equatable {
    typealias Address = RedisConfiguration.Address

    static let slotCount = 16_384

    /// The masters, in the order of their first slots.
    private(set) var masters: [Address] = []
    private var owners = [UInt16](repeating: .max, count: Self.slotCount)

    /// Reads the answer of `CLUSTER SLOTS`: first slot, last slot, master (host, port, …), replicas. A node
    /// that does not know its own name leaves it empty: then it is the one that was asked.
    init(_ reply: RedisValue, from asked: Address) throws(RedisError) {
        for range in reply.array ?? [] {
            guard let fields = range.array, fields.count >= 3, let first = fields[0].int,
                let last = fields[1].int, (0..<Self.slotCount).contains(first), first <= last,
                last < Self.slotCount, let place = fields[2].array, place.count >= 2,
                let port = place[1].int, (1...65_535).contains(port)
            else { throw RedisError(.protocolViolation, "CLUSTER SLOTS was not answered with slots") }
            let master: Address =
                switch (place[0].text ?? "", asked) {
                case ("", .tcp(let host, _)), ("?", .tcp(let host, _)): .tcp(host: host, port: port)
                case (let host, _): .tcp(host: host, port: port)
                }
            let index = own(master)
            for slot in first...last { owners[slot] = index }
        }
        guard !masters.isEmpty else {
            throw RedisError(.configuration, "the server is no node of a cluster that serves slots")
        }
    }

    /// Who serves a slot; nil while nobody does.
    func master(of slot: Int) -> Address? {
        owners[slot] == .max ? nil : masters[Int(owners[slot])]
    }

    /// A node said that another serves this slot.
    mutating func move(_ slot: Int, to master: Address) { owners[slot] = own(master) }

    private mutating func own(_ master: Address) -> UInt16 {
        if let index = masters.firstIndex(of: master) { return UInt16(index) }
        masters.append(master)
        return UInt16(masters.count - 1)
    }

    /// The slot of a key: CRC16 (XMODEM) of its hash tag, or of all of it if it has none.
    static func slot(of key: ArraySlice<UInt8>) -> Int {
        var tag = key
        if let open = key.firstIndex(of: UInt8(ascii: "{")),
            let close = key[(open + 1)...].firstIndex(of: UInt8(ascii: "}")), close > open + 1
        {
            tag = key[(open + 1)..<close]
        }
        var crc: UInt16 = 0
        for byte in tag {
            crc ^= UInt16(byte) << 8
            for _ in 0..<8 { crc = crc & 0x8000 != 0 ? crc << 1 ^ 0x1021 : crc << 1 }
        }
        return Int(crc) % slotCount
    }
}

/// Where a node of a cluster sends a command to.
enum Redirection: Equatable {
    /// The slot is served there from now on.
    case moved(slot: Int, RedisConfiguration.Address)
    /// The slot is on its way there, and this key is there already: this once, after `ASKING`.
    case ask(RedisConfiguration.Address)

    /// Reads `MOVED slot host:port` and `ASK slot host:port`, which is told with an empty host by a node that
    /// does not know it: then it is that of the node that was asked. Nil for every other error.
    init?(_ error: RedisError, from asked: RedisConfiguration.Address) {
        let words = error.message.split(separator: " ")
        guard words.count == 3, let slot = Int(words[1]), (0..<ClusterMap.slotCount).contains(slot),
            let colon = words[2].lastIndex(of: ":"),
            let port = Int(words[2][words[2].index(after: colon)...]), (1...65_535).contains(port)
        else { return nil }
        var host = String(words[2][..<colon])
        if host.isEmpty, case .tcp(let same, _) = asked { host = same }
        let address = RedisConfiguration.Address.tcp(host: host, port: port)
        switch error.serverCode {
        case "MOVED"?: self = .moved(slot: slot, address)
        case "ASK"?: self = .ask(address)
        default: return nil
        }
    }
}
