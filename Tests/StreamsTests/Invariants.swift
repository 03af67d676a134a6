import Domain
import Redis
import Testing

@testable import Streams

extension Bench {
    /// Compares every key of the partition with every other.
    func invariants(sourceLocation: SourceLocation = #_sourceLocation) async throws {
        let live = try await hash("live")
        let depth = try await hash("depth")
        let returned = try await hash("returned")
        let leases = try await members("leases").map { $0.split(separator: " ").map(String.init) }
        let running = try await members("running").map { $0.split(separator: " ").map(String.init) }
        let due = Set(try await members("due"))
        let held = Set(try await members("held"))
        var slots: [String: Int] = [:]
        var placed: [String: Set<String>] = [:]
        let leased = Set(leases.map { "\($0[1]) \($0[2]) \($0[3])" })
        for lease in leases {
            slots["o\(lease[1])", default: 0] += 1
            slots["d\(lease[6])", default: 0] += 1
        }
        for run in running {
            slots["o\(run[0])", default: 0] += 1
            slots["r\(run[0])", default: 0] += 1
            slots["d\(run[3])", default: 0] += 1
        }
        let streams = try await names().filter { $0.hasPrefix("queue:") }
        #expect(streams == Set(depth.keys.map { "queue:\($0)" }), sourceLocation: sourceLocation)
        var waiting = Set<String>()
        var aside = Set<String>()
        for (queue, count) in depth {
            let words = queue.split(separator: ":").map(String.init)
            var ready = 0
            var back = 0
            var pending: [String: String] = [:]
            let list = try await raw("XPENDING", "queue:\(queue)", "dispatch", "-", "+", 10_000).array ?? []
            for item in list.compactMap(\.array) { pending[item[0].text ?? ""] = item[1].text }
            for entry in try await raw("XRANGE", "queue:\(queue)", "-", "+").array ?? [] {
                let id = entry.array?.first?.text ?? ""
                let work = entry.array?.last?.array?.last?.text ?? ""
                let fields = work.split(separator: " ").map(String.init)
                let place = "\(words[0]) \(words[1]) \(id)"
                switch pending.removeValue(forKey: id) {
                case nil: ready += 1
                case "returned"?: (ready, back) = (ready + 1, back + 1)
                case "leased"?: #expect(leased.contains(place), sourceLocation: sourceLocation)
                case "delayed"?: waiting.insert(place)
                case "held"?:
                    aside.insert("\(fields[2]) \(place)")
                    slots["h\(queue)", default: 0] += 1
                case let other?: Issue.record("consumer \(other)", sourceLocation: sourceLocation)
                }
                let isLive = live[fields[0]]?.hasPrefix("\(fields[1]) \(words[1]) \(id) ") == true
                #expect(
                    isLive || leased.contains(place), "an entry nobody knows", sourceLocation: sourceLocation)
                placed[fields[0], default: []].insert("\(words[1]) \(id)")
            }
            #expect(pending.isEmpty, "pending without an entry", sourceLocation: sourceLocation)
            #expect(Int(count) == ready, "depth of \(queue)", sourceLocation: sourceLocation)
            #expect(
                Int(returned[queue] ?? "0") == back, "returned of \(queue)", sourceLocation: sourceLocation)
        }
        #expect(due == waiting, sourceLocation: sourceLocation)
        #expect(held == aside, sourceLocation: sourceLocation)
        let counted = try await hash("slots").mapValues { Int($0) }
        #expect(counted == slots, sourceLocation: sourceLocation)
        for (run, value) in live {
            let words = value.split(separator: " ").map(String.init)
            if words.count == 1 {
                #expect(
                    running.contains { $0[1] == run && $0[2] == words[0] }, sourceLocation: sourceLocation)
            } else {
                #expect(
                    placed[run]?.contains("\(words[1]) \(words[2])") == true, sourceLocation: sourceLocation)
            }
        }
        try await serviceInvariant(depth, sourceLocation)
    }

    /// Who has entries and is neither paused nor capped nor blocked aside is in service; while there is
    /// anybody, the bell has one token.
    private func serviceInvariant(_ depth: [String: String], _ sourceLocation: SourceLocation) async throws {
        let ready = Set(try await members("ready"))
        let paused = Set(try await raw("SMEMBERS", "paused").array?.compactMap(\.text) ?? [])
        let window = max(8, min(Bench.window, 100_000 / max(1, depth.count)))
        let slots = try await hash("slots")
        let caps = try await hash("caps")
        var expected = Set<String>()
        for (queue, count) in depth where count != "0" {
            let organization = String(queue.prefix { $0 != ":" })
            let taken = slots["o\(organization)"].flatMap { Int($0) } ?? 0
            let capped = taken >= caps["\(organization):cap"].flatMap { Int($0) } ?? .max
            let isBlocked = slots["h\(queue)"].flatMap { Int($0) } ?? 0 > window
            let names = ["*", "*:\(queue.suffix(1))", organization, queue]
            if paused.isDisjoint(with: names), !capped, !isBlocked { expected.insert(organization) }
        }
        #expect(expected.subtracting(ready).isEmpty, "not in service", sourceLocation: sourceLocation)
        #expect(ready.isDisjoint(with: paused), sourceLocation: sourceLocation)
        let tokens = try await raw("LLEN", "bell").int ?? 0
        #expect(ready.isEmpty ? tokens <= 1 : tokens == 1, "the bell", sourceLocation: sourceLocation)
    }
}
