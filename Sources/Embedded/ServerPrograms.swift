import Process

/// Finds the installed server programs.
enum ServerPrograms {
    /// The directory with `initdb` and `postgres`: of the version that made the data, else of the newest.
    static func postgresDirectory(dataVersion: String?) async throws -> String {
        let root = "/usr/lib/postgresql"
        let installed = fileExists(root) ? try listDirectory(root).compactMap { Int($0) }.sorted(by: >) : []
        var candidates = installed.map { "\(root)/\($0)/bin" }
        if let dataVersion { candidates.insert("\(root)/\(dataVersion)/bin", at: 0) }
        if let found = candidates.first(where: isPostgres) { return found }
        if let configured = try await configuredDirectory(), isPostgres(configured) { return configured }
        if let found = searchPath.first(where: isPostgres) { return found }
        throw EmbeddedError(
            .missingTool,
            "the PostgreSQL server (initdb, postgres) is not installed: apt-get install postgresql")
    }

    static func redisServer() throws -> String {
        let places = ["/usr/bin", "/usr/local/bin"] + searchPath
        guard let place = places.first(where: { fileExists("\($0)/redis-server") }) else {
            throw EmbeddedError(
                .missingTool, "the Redis server (redis-server) is not installed: apt-get install redis-server"
            )
        }
        return "\(place)/redis-server"
    }

    private static var searchPath: [String] {
        (environmentVariable("PATH") ?? "").split(separator: ":").map(String.init).filter {
            $0.hasPrefix("/")
        }
    }

    private static func isPostgres(_ directory: String) -> Bool {
        fileExists("\(directory)/initdb") && fileExists("\(directory)/postgres")
    }

    /// What `pg_config --bindir` says.
    private static func configuredDirectory() async throws -> String? {
        guard let place = searchPath.first(where: { fileExists("\($0)/pg_config") }) else { return nil }
        let limits = RunLimits(timeoutSeconds: 5, headBytes: 4096, tailBytes: 0)
        let options = ChildOptions(
            executable: "\(place)/pg_config", arguments: ["--bindir"],
            environment: [("PATH", "/usr/bin:/bin")])
        let report = try await ScriptRun(marker: "pg-config").runToEnd(options, limits: limits)
        return String(decoding: report.stdout.head, as: UTF8.self).split(separator: "\n").first.map(
            String.init)
    }
}
