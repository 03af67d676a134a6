import Domain
import Redis
import Streams
import Trust

/// What `doctor` looks at in Redis: every server that has data of its own, one by one.
extension Examination {
    /// The server, or the masters of the cluster, that an address leads to.
    func redis(_ url: String, loaderURL: String?) async -> [Finding] {
        let name = "redis (\(Setting.redisURL.rawValue))"
        var findings: [Finding] = []
        var masters = 0
        findings += await servers(name, .redisURL, url) { connection in
            let nodes = try await connection.masters()
            masters = nodes.count
            var findings: [Finding] = []
            for node in nodes {
                findings += await examine(nodes.count == 1 ? name : "\(name) \(node)", node)
            }
            if let slots = try await connection.slots() { findings += cluster(name, slots, nodes.count) }
            return findings
        }
        guard masters > 0 else { return findings }
        let setting = loaderURL == nil ? Setting.redisURL : .redisLoaderURL
        let library = "redis library (\(setting.rawValue))"
        findings += await servers(library, setting, loaderURL ?? url) { connection in
            let lacking = try await Queue.serversWithoutLibrary(connection).map(\.description)
            return [
                lacking.isEmpty
                    ? Finding(library, .ok, "this release's is on \(masters) of \(masters)")
                    : Finding(
                        library, .warn,
                        "not of this release, or missing, on \(lacking.joined(separator: ", "))",
                        remedy: "start a role of this release, which loads it")
            ]
        }
        return findings
    }

    /// What a body finds over a connection; that there is none is a finding too.
    private func servers(
        _ name: String, _ setting: Setting, _ url: String,
        _ body: (RedisConnection) async throws -> [Finding]
    ) async -> [Finding] {
        let connection: RedisConnection
        do {
            let configuration = try given.parse(setting, url) { try RedisConfiguration(url: $0) }
            connection = RedisConnection(configuration: configuration, logger: logger)
        } catch {
            return [
                Finding(name, .fail, "\(error)", remedy: "correct the URL: redis://user:password@host:6379")
            ]
        }
        connection.start()
        var findings: [Finding]
        do {
            findings = try await body(connection)
        } catch {
            findings = [silent(name, error)]
        }
        await connection.close()
        return findings
    }

    private func silent(_ name: String, _ error: any Error) -> Finding {
        if let error = error as? RedisError, error.serverCode == "NOPERM" {
            return Finding(
                name, .warn, "its login may not ask: \(error.message)",
                remedy: "call doctor with the worker's REDIS_URL, and the CLOUDRMM_REDIS_LOADER_URL of all")
        }
        return Finding(
            name, .fail, "does not answer: \(error)",
            remedy: "see that the server runs, and that host, password and ACL let this host in")
    }

    /// One server with data.
    private func examine(_ name: String, _ node: RedisNode) async -> [Finding] {
        do {
            let before = Instant.now()
            let time = try await node.send(RedisCommand("TIME")).array?.compactMap(\.int) ?? []
            let info = try await node.send(RedisCommand("INFO", "server", "memory", "persistence")).text ?? ""
            var findings = [version(name, info)]
            if time.count == 2 {
                let server = Instant(microseconds: Int64(time[0]) * 1_000_000 + Int64(time[1]))
                findings.append(clock(name, server, asked: before))
            }
            return findings + [policy(name, info), log(name, info)]
        } catch {
            return [silent(name, error)]
        }
    }

    private func field(_ name: String, _ info: String) -> String? {
        for line in info.split(whereSeparator: \.isNewline) where line.hasPrefix("\(name):") {
            return String(line.dropFirst(name.count + 1))
        }
        return nil
    }

    private func version(_ name: String, _ info: String) -> Finding {
        let version = field("redis_version", info) ?? "unknown"
        return (version.split(separator: ".").first.flatMap { Int($0) } ?? 0) >= 7
            ? Finding(name, .ok, "version \(version)")
            : Finding(name, .fail, "version \(version)", remedy: "Redis 7.0 is needed")
    }

    private func policy(_ name: String, _ info: String) -> Finding {
        let policy = field("maxmemory_policy", info) ?? "unknown"
        return policy == "noeviction"
            ? Finding("\(name) policy", .ok, "noeviction")
            : Finding(
                "\(name) policy", .fail, "maxmemory-policy is \(policy), which throws queued work away",
                remedy: "set maxmemory-policy noeviction")
    }

    private func log(_ name: String, _ info: String) -> Finding {
        field("aof_enabled", info) == "1"
            ? Finding("\(name) log", .ok, "appendonly yes")
            : Finding(
                "\(name) log", .warn, "appendonly no: a restart loses the queue, which is built again",
                remedy: "set appendonly yes")
    }

    /// The cluster as a whole.
    private func cluster(_ name: String, _ slots: RedisSlots, _ masters: Int) -> [Finding] {
        let unserved = RedisSlots.all - slots.served
        // What is not said at all is the default; what cannot be read is said by whoever starts.
        let partitions = given[.redisPartitions].flatMap { Int($0) } ?? 1
        return [
            unserved == 0
                ? Finding("\(name) slots", .ok, "all are served, by \(masters)")
                : Finding(
                    "\(name) slots", .fail, "\(unserved) of \(RedisSlots.all) are served by nobody",
                    remedy: "give them to a master: redis-cli --cluster fix"),
            slots.mastersAlone.isEmpty
                ? Finding("\(name) replicas", .ok, "every master has one")
                : Finding(
                    "\(name) replicas", .warn,
                    "none of \(slots.mastersAlone.joined(separator: ", ")): while one is away its partitions "
                        + "wait",
                    remedy: "add one: redis-cli --cluster add-node --cluster-slave"),
            partitions >= masters
                ? Finding("\(name) partitions", .ok, "\(partitions) over \(masters)")
                : Finding(
                    "\(name) partitions", .warn, "\(partitions) for \(masters) masters, of which some idle",
                    remedy: "set \(Setting.redisPartitions.rawValue) to a few for each, and restart all roles"
                ),
        ]
    }
}
