import Client
import History
import Process
import TestSupport
import Testing

extension EndToEndTests {
    /// All roles on three masters, each with the login that `cloudrmm redis-users` makes for it, and what
    /// `doctor` says of the masters.
    @Suite(.serialized) struct ClusterLoginTests {
        @Test(
            "with minimal rights on three masters all kinds of jobs end as they should, and doctor sees all")
        func logins() async throws {
            let masters = try await RedisCluster()
            let cluster = try await FaultCluster("cluster", migratorDiesAt: 1) { scratch in
                .cluster(masters, try await Self.makeUsers(masters, scratch))
            }
            let plan = FaultPlan(seed: 0, clusters: [], outage: .zero, snapshot: .zero)
            try await Round(cluster: cluster, plan: plan, name: "logins", strikes: [], jobsPerAgent: 8).run()
            try await examine(masters, cluster)
            try await cluster.absent?.process.start()
            try await cluster.untilAllEnded()
            await cluster.gatherStarts()
            try await cluster.gatherOutcomes()
            try await cluster.stop()
            #expect(Checker.violations(in: cluster.log.history).map(String.init(describing:)) == [])
            #expect(cluster.log.history.events.contains { $0.kind == .started })
        }

        /// Gives the users of the file to each master; returns the settings of each role.
        private static func makeUsers(
            _ masters: RedisCluster, _ scratch: Scratch
        ) async throws -> [String: [(String, String)]] {
            let file = Self.users(scratch)
            let said = try await tool(
                try Binaries.path("cloudrmm"), ["redis-users", file, "--server", masters.url()]
            ).required()
            for node in masters.nodes { try await setUsers(node.port, scratch) }
            var (settings, all): ([String: [(String, String)]], [(String, String)]) = ([:], [])
            var role: String?
            for line in said.split(separator: "\n") {
                if line.hasPrefix("# ") {
                    role = line.hasPrefix("# the role ") ? String(line.dropFirst(11)) : nil
                } else if let equals = line.firstIndex(of: "=") {
                    let setting = (String(line[..<equals]), String(line[line.index(after: equals)...]))
                    if let role { settings[role, default: []].append(setting) } else { all.append(setting) }
                }
            }
            try #require(settings.count == 3 && all.count == 1, "\(said)")
            all.append(("CLOUDRMM_REDIS_PARTITIONS", "4"))
            return settings.mapValues { $0 + all }
        }

        private static func users(_ scratch: Scratch) -> String { "\(scratch.path)/users.acl" }

        private static func setUsers(_ port: Int, _ scratch: Scratch) async throws {
            for user in lines(of: users(scratch)) where !user.hasPrefix("user default ") {
                let words = user.split(separator: " ").dropFirst().map(String.init)
                try await redis(port, ["ACL", "SETUSER"] + words)
            }
        }

        @discardableResult
        private static func redis(_ port: Int, _ words: [String]) async throws -> String {
            let said = try await tool("/usr/bin/redis-cli", ["-e", "-p", "\(port)"] + words).required()
            return said
        }

        // MARK: doctor

        private func doctor(
            _ cluster: FaultCluster, as role: String, besides: (String, String)? = nil
        ) async throws -> ToolResult {
            let keys = ("CLOUDRMM_KEYS_DIR", "\(cluster.scratch.path)/keys")
            let environment = cluster.environment(of: role).filter { $0.0 != besides?.0 }
            return try await tool(
                try Binaries.path("cloudrmm"), ["doctor"],
                environment: environment + [keys] + [besides].compactMap(\.self))
        }

        /// The lines of the output that are about a port and hold some words.
        private func says(_ result: ToolResult, _ verdict: String, _ words: String...) -> Bool {
            result.output.split(separator: "\n").contains { line in
                line.hasPrefix(verdict) && words.allSatisfy { line.contains($0) }
            }
        }

        private func examine(_ masters: RedisCluster, _ cluster: FaultCluster) async throws {
            let healthy = try await doctor(cluster, as: "worker")
            #expect(healthy.exit == .exited(0), "\(healthy)")
            for node in masters.nodes {
                for what in ["version 7", "clock", "policy: noeviction"] {
                    #expect(says(healthy, "ok", ":\(node.port)", what), "\(what) \(healthy.output)")
                }
                #expect(says(healthy, "warn", ":\(node.port)", "replicas: none of"), "\(healthy.output)")
            }
            #expect(says(healthy, "ok", "redis library", "3 of 3"), "\(healthy.output)")
            #expect(says(healthy, "ok", "slots", "all are served"), "\(healthy.output)")
            #expect(says(healthy, "ok", "partitions", "4 over 3"), "\(healthy.output)")

            // Whose login may not ask says so, and is not taken for a server that is away.
            let gateway = try await doctor(cluster, as: "gateway")
            #expect(says(gateway, "warn", "its login may not ask"), "\(gateway.output)")
            #expect(!gateway.output.contains("does not answer"), "\(gateway.output)")

            let few = try await doctor(cluster, as: "worker", besides: ("CLOUDRMM_REDIS_PARTITIONS", "2"))
            #expect(says(few, "warn", "partitions", "2 for 3 masters"), "\(few.output)")

            // One master is found wanting, and the others are not.
            let (ill, well) = (masters.nodes[1].port, masters.nodes[2].port)
            try await Self.redis(ill, ["CONFIG", "SET", "maxmemory-policy", "allkeys-lru"])
            let found = try await doctor(cluster, as: "worker")
            #expect(found.exit == .exited(1))
            #expect(says(found, "fail", ":\(ill) policy", "allkeys-lru"), "\(found.output)")
            #expect(says(found, "ok", ":\(well) policy"), "\(found.output)")
            try await Self.redis(ill, ["CONFIG", "SET", "maxmemory-policy", "noeviction"])

            try await Self.redis(masters.nodes[0].port, ["CLUSTER", "DELSLOTS", "1", "2"])
            let gap = try await doctor(cluster, as: "worker")
            #expect(gap.exit == .exited(1) && says(gap, "fail", "slots", "16384"), "\(gap.output)")
            try await Self.redis(masters.nodes[0].port, ["CLUSTER", "ADDSLOTS", "1", "2"])

            masters.end(0)
            let dead = try await doctor(cluster, as: "worker")
            #expect(dead.exit == .exited(1))
            #expect(
                says(dead, "fail", ":\(masters.nodes[0].port)", "does not answer"), "\(dead.output)")
            #expect(says(dead, "ok", ":\(ill)", "version 7"), "\(dead.output)")
            try await masters.restart(0)
            try await Self.setUsers(masters.nodes[0].port, cluster.scratch)
        }
    }
}
