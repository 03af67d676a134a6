/// Which keys a command names: what a cluster finds its node by; pure.
extension RedisCommand {
    /// The keys, in order. None for a command that has none; the first argument of one that is not known
    /// here.
    var keys: ArraySlice<ArraySlice<UInt8>> {
        let arguments = arguments[1...]
        switch name {
        case "FCALL", "FCALL_RO", "EVAL", "EVAL_RO", "EVALSHA", "EVALSHA_RO":
            guard arguments.count >= 2, let count = Self.number(arguments[2]) else { return [] }
            return arguments.dropFirst(2).prefix(count)
        case "XREAD", "XREADGROUP":
            let streams = arguments.drop { !$0.elementsEqual("STREAMS".utf8) }.dropFirst()
            return streams.prefix(streams.count / 2)
        case "DEL", "UNLINK", "EXISTS", "TOUCH", "MGET", "WATCH", "SINTER", "SUNION", "SDIFF":
            return arguments
        case "MSET": return arguments.enumerated().filter { $0.offset % 2 == 0 }.map(\.element)[...]
        case "BLPOP", "BRPOP": return arguments.dropLast()
        case "RENAME", "RENAMENX", "LMOVE", "SMOVE", "RPOPLPUSH": return arguments.prefix(2)
        case "OBJECT", "XINFO", "XGROUP", "MEMORY": return arguments.dropFirst().prefix(1)
        case _ where Self.keyless.contains(name): return []
        default: return arguments.prefix(1)
        }
    }

    /// The first of them.
    package var firstKey: String? { keys.first.map { String(decoding: $0, as: UTF8.self) } }

    /// The slot that the command belongs to; nil for any node. Throws for keys of several slots, and names
    /// them: no node of a cluster carries that out.
    var slot: Int? {
        get throws(RedisError) {
            if let place { return ClusterMap.slot(of: place[...]) }
            let keys = keys
            guard let first = keys.first else { return nil }
            let slot = ClusterMap.slot(of: first)
            for key in keys.dropFirst() where ClusterMap.slot(of: key) != slot {
                throw Self.crossing(first, key, "one \(name)")
            }
            return slot
        }
    }

    /// The one slot of commands that are carried out together; nil if none has a key.
    static func slot(ofAll commands: [RedisCommand]) throws(RedisError) -> Int? {
        var found: (slot: Int, key: ArraySlice<UInt8>)?
        for command in commands {
            guard let slot = try command.slot else { continue }
            let key = command.keys.first ?? command.place?[...] ?? []
            if let found, found.slot != slot { throw crossing(found.key, key, "one transaction") }
            found = found ?? (slot, key)
        }
        return found?.slot
    }

    private static func crossing(
        _ first: ArraySlice<UInt8>, _ second: ArraySlice<UInt8>, _ whole: String
    ) -> RedisError {
        func name(_ key: ArraySlice<UInt8>) -> String { String(decoding: key, as: UTF8.self) }
        return RedisError(
            reply: "CROSSSLOT the keys “\(name(first))” and “\(name(second))” of \(whole) "
                + "lie in different slots of the cluster")
    }

    private static func number(_ argument: ArraySlice<UInt8>) -> Int? {
        Int(String(decoding: argument, as: UTF8.self)).flatMap { $0 >= 0 ? $0 : nil }
    }

    private static let keyless: Set<String> = [
        "ACL", "ASKING", "AUTH", "BGREWRITEAOF", "BGSAVE", "CLIENT", "CLUSTER", "COMMAND", "CONFIG",
        "DBSIZE", "DEBUG", "ECHO", "EXEC", "FLUSHALL", "FLUSHDB", "FUNCTION", "HELLO", "INFO", "KEYS",
        "LASTSAVE", "LATENCY", "MULTI", "PING", "RANDOMKEY", "ROLE", "SAVE", "SCAN", "SCRIPT", "SELECT",
        "SHUTDOWN", "SLOWLOG", "TIME", "UNWATCH", "WAIT",
    ]
}
