package import Domain
import Redis

extension Queue {
    /// The weights, caps and buckets of organizations that are not the default, as Redis has them. A view,
    /// not a snapshot.
    package func entitlements() async throws -> [Entitlement] {
        var found: [OrganizationID: [Substring: RedisValue]] = [:]
        try await scan("HSCAN", "caps") { items in
            for at in stride(from: 0, to: items.count - 1, by: 2) {
                let words = (items[at].text ?? "").split(separator: ":")
                guard words.count == 2, let id = OrganizationID(words[0]) else { continue }
                found[id, default: [:]][words[1]] = items[at + 1]
            }
        }
        return found.map { id, values in
            Entitlement(
                organization: id, weight: values["weight"]?.double ?? 1, cap: values["cap"]?.int,
                interactiveRate: values["rate"]?.double, interactiveBurst: values["burst"]?.int)
        }
    }

    /// The pauses in force, as Redis has them.
    package func pauses() async throws -> Set<Pause> {
        var pauses: Set<Pause> = []
        try await scan("SSCAN", "paused") { items in
            for item in items {
                let words = (item.text ?? "").split(separator: ":")
                guard let first = words.first else { continue }
                let organization = OrganizationID(first)
                guard organization != nil || first == "*" else { continue }
                let priority = words.dropFirst().first.flatMap { Int16($0) }.flatMap(Priority.init(rawValue:))
                pauses.insert(Pause(organization: organization, priority: priority))
            }
        }
        return pauses
    }

    /// The organizations that have entries, or a mark that PostgreSQL has more, or runs on devices. A view,
    /// not a snapshot.
    package func activeOrganizations() async throws -> Set<OrganizationID> {
        var active: Set<OrganizationID> = []
        func add(_ names: some Sequence<Substring>) {
            active.formUnion(names.compactMap { OrganizationID($0.prefix { $0 != ":" }) })
        }
        for key in ["depth", "slots"] {
            try await scan("HSCAN", key) { items in
                let fields = stride(from: 0, to: items.count - 1, by: 2).lazy.filter {
                    items[$0 + 1].int != 0
                }
                add(
                    fields.compactMap { at -> Substring? in
                        let name = items[at].text ?? ""
                        guard key == "slots" else { return name[...] }
                        return name.hasPrefix("o") ? name.dropFirst() : nil
                    })
            }
        }
        try await scan("ZSCAN", "marks") { items in
            add(stride(from: 0, to: items.count - 1, by: 2).compactMap { items[$0].text?[...] })
        }
        return active
    }

    /// What the organizations weigh together that a claim would serve now. A view, not a snapshot.
    package func activeWeight() async throws -> Double {
        var weights: [(organization: Substring, weight: Double)] = []
        try await scan("HSCAN", "caps") { items in
            for at in stride(from: 0, to: items.count - 1, by: 2) {
                let words = (items[at].text ?? "").split(separator: ":")
                guard words.count == 2, words[1] == "weight", let weight = items[at + 1].double else {
                    continue
                }
                weights.append((words[0], weight))
            }
        }
        var sum = Double(try await send(RedisCommand("ZCARD", .string(keys.key("ready")))).int ?? 0)
        guard !weights.isEmpty else { return sum }
        let scores = try await send(
            RedisCommand(
                "ZMSCORE",
                arguments: [.string(keys.key("ready"))] + weights.map { .string(String($0.organization)) })
        ).elements()
        for (known, score) in zip(weights, scores) where score != .null { sum += known.weight - 1 }
        return sum
    }

    /// Walks all of a hash or a set, some hundred items a step.
    private func scan(_ command: String, _ key: String, _ body: ([RedisValue]) -> Void) async throws {
        var cursor = "0"
        repeat {
            let reply = try await send(
                RedisCommand(
                    command, arguments: [.string(keys.key(key)), .string(cursor), "COUNT", 500])
            ).elements()
            cursor = reply.first?.text ?? "0"
            body(reply.last?.array ?? [])
        } while cursor != "0"
    }
}
