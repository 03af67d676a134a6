import ArgumentParser
import Client
import Domain
import Foundation
import Ledger
import Logging
import Postgres
import Process
import Trust
import Wire

/// `cloudrmm doctor`: examines an installation from the host on which it is called.
struct Doctor: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        abstract: "Examine an installation: settings, servers, logins, clocks, keys, disk, processes.",
        discussion: """
            Reads the settings of `serve` from environment and file; without any of them, what `cloudrmm up` \
            wrote into its data directory. Each line is ok, warn or fail, with what helps. Ends with 1 if \
            anything has failed.
            """)

    @OptionGroup var connection: ConnectionOptions

    func run() async throws {
        let findings = try await Examination(connection: connection).findings()
        switch connection.output {
        case .json: for finding in findings { Terminal.print(json: finding) }
        case .table: for finding in findings { Terminal.print(finding.line) }
        }
        if findings.contains(where: { $0.verdict == .fail }) {
            throw ExitCode(Failure.Code.failedRuns.rawValue)
        }
    }
}

/// What one check has found.
struct Finding: WireObject, Equatable {
    enum Verdict: String, CaseIterable { case ok, warn, fail }

    /// What was looked at, what was found, and what helps.
    var check: String
    var verdict: Verdict
    var detail: String
    var remedy: String?

    init(_ check: String, _ verdict: Verdict, _ detail: String, remedy: String? = nil) {
        (self.check, self.verdict, self.detail, self.remedy) = (check, verdict, detail, remedy)
    }

    init(from reader: inout FieldReader) throws(FieldError) {
        check = try reader.field("check")
        verdict = try reader.field("verdict")
        detail = try reader.field("detail")
        remedy = try reader.optional("remedy")
    }

    func fields(to writer: inout JSONWriter) {
        writer.field("check", check)
        writer.field("verdict", verdict)
        writer.field("detail", detail)
        writer.field("remedy", remedy)
    }

    /// `fail  redis: …; remedy`.
    var line: String {
        let words = verdict.rawValue.padding(toLength: 6, withPad: " ", startingAt: 0)
        return Terminal.harmless("\(words)\(check): \(detail)" + (remedy.map { "; \($0)" } ?? ""))
    }
}

extension Finding.Verdict: WireWord {
    var word: String { rawValue }
}

/// The checks, one after another; none depends on the success of another.
struct Examination {
    let given: Settings
    let dataDirectory: String
    let ready: Ready?
    let connection: ConnectionOptions
    let logger: Logger

    init(connection: ConnectionOptions) throws {
        self.connection = connection
        given = try connection.options.settings()
        dataDirectory = absolutePath(connection.dataDir ?? ".cloudrmm")
        logger = try makeLogger(level: "critical")
        // Without the file there is no such installation here; a broken one is said by the check of the API.
        ready = (try? readFile("\(dataDirectory)/ready.json", max: 1 << 16)).flatMap { try? Ready.decode($0) }
    }

    func findings() async throws -> [Finding] {
        var findings: [Finding] = []
        let databases: [(Setting, String?)] = [
            (.databaseURL, given[.databaseURL] ?? ready?.databaseURL),
            (.workerDatabaseURL, given[.workerDatabaseURL]),
            (.gatewayDatabaseURL, given[.gatewayDatabaseURL]),
        ]
        let redisURL = given[.redisURL] ?? ready?.redisURL
        if databases.allSatisfy({ $0.1 == nil }), redisURL == nil {
            findings.append(
                Finding(
                    "settings", .fail, "neither a database nor Redis is named",
                    remedy: "set DATABASE_URL and REDIS_URL, or name the --data-dir of `cloudrmm up`"))
        } else {
            findings.append(
                Finding("settings", .ok, "read from \(ready == nil ? "settings" : dataDirectory)"))
        }
        for case (let setting, let url?) in databases { findings += await database(setting, url) }
        if let redisURL {
            findings += await redis(redisURL, loaderURL: given[.redisLoaderURL])
        }
        findings += keys()
        findings += disk()
        findings.append(descriptors())
        findings += await processes()
        return findings
    }

    // MARK: PostgreSQL

    private func database(_ setting: Setting, _ url: String) async -> [Finding] {
        let name = "postgresql (\(setting.rawValue))"
        do {
            var configuration = try given.parse(setting, url) { try PostgresConfiguration(url: $0) }
            (configuration.connections, configuration.transactionConnections) = (1, 1)
            let pool = PostgresPool(configuration: configuration, logger: logger)
            pool.start()
            let findings = await self.findings(name, Ledger(pool: pool))
            await pool.close()
            return findings
        } catch {
            return [
                Finding(
                    name, .fail, "\(error)", remedy: "correct the URL: postgresql://user:password@host/name")
            ]
        }
    }

    private func findings(_ name: String, _ ledger: Ledger) async -> [Finding] {
        var findings: [Finding] = []
        do {
            let before = Instant.now()
            guard let facts = try await ledger.serverFacts() else { return [] }
            findings.append(
                facts.version >= 150_000
                    ? Finding(name, .ok, "version \(facts.version / 10_000).\(facts.version % 10_000)")
                    : Finding(
                        name, .fail, "version \(facts.version / 10_000)", remedy: "PostgreSQL 15 is needed"))
            findings.append(clock(name, facts.time, asked: before))
            findings.append(
                facts.isAboveRowSecurity
                    ? Finding(
                        "\(name) login", .fail,
                        "\(facts.login) is a superuser or has BYPASSRLS and would see every tenant",
                        remedy: "use one of the logins that `cloudrmm migrate` makes")
                    : Finding("\(name) login", .ok, "row-level security holds for \(facts.login)"))
        } catch {
            return [
                Finding(
                    name, .fail, "does not answer: \(error)",
                    remedy:
                        "see that the server runs, and that host, password and pg_hba.conf let this host in")
            ]
        }
        do {
            let missing = try await ledger.missingMigrations()
            findings.append(
                missing.isEmpty
                    ? Finding("\(name) schema", .ok, "has all migrations of this release")
                    : Finding(
                        "\(name) schema", .fail, "lacks \(missing.joined(separator: ", "))",
                        remedy: "run `cloudrmm migrate`"))
        } catch {
            findings.append(
                Finding("\(name) schema", .fail, "is not of this release", remedy: "run `cloudrmm migrate`"))
        }
        return findings
    }

    func clock(_ name: String, _ time: Instant, asked before: Instant) -> Finding {
        let (now, server) = (Instant.now(), Double(time.microseconds))
        // Somewhere between asking and hearing.
        let off = max(0, Double(before.microseconds) - server, server - Double(now.microseconds)) / 1e6
        let text = "\((off * 10).rounded() / 10) s from this host's"
        return switch off {
        case ..<1: Finding("\(name) clock", .ok, text)
        case ..<5: Finding("\(name) clock", .warn, text, remedy: "let NTP or chrony set both clocks")
        default: Finding("\(name) clock", .fail, text, remedy: "let NTP or chrony set both clocks")
        }
    }

    // MARK: This host

    private var keysDirectory: String {
        ready == nil ? given.keysDirectory : "\(dataDirectory)/keys"
    }

    /// Nobody but the owner may read keys, be it by a link.
    private func keys() -> [Finding] {
        guard FileStatus(keysDirectory) != nil else {
            return [
                Finding(
                    "keys", .warn, "\(keysDirectory) is not here, which only the API and gateways need",
                    remedy: "name it with CLOUDRMM_KEYS_DIR")
            ]
        }
        var loose: [String] = []
        func look(_ path: String, depth: Int) {
            guard let status = FileStatus(path, followsLinks: false) else { return }
            // A certificate is public.
            if status.mode & 0o077 != 0, status.isDirectory || !path.hasSuffix("ca.pem") {
                loose.append(path)
            }
            guard status.isDirectory, depth < 3 else { return }
            // One that cannot be listed cannot be read by others either.
            for name in (try? listDirectory(path)) ?? [] { look("\(path)/\(name)", depth: depth + 1) }
        }
        look(keysDirectory, depth: 0)
        guard let first = loose.sorted().first else {
            return [Finding("keys", .ok, "\(keysDirectory) is private")]
        }
        return [
            Finding(
                "keys", .fail,
                "\(first) is open to others" + (loose.count > 1 ? ", and \(loose.count - 1) more" : ""),
                remedy: "chmod -R go= \(keysDirectory), and make new keys if others were on this host")
        ]
    }

    private func disk() -> [Finding] {
        let path = FileStatus(dataDirectory) == nil ? "/" : dataDirectory
        // What cannot be asked is told below.
        guard let attributes = try? FileManager.default.attributesOfFileSystem(forPath: path),
            let free = (attributes[.systemFreeSize] as? NSNumber)?.int64Value,
            let size = (attributes[.systemSize] as? NSNumber)?.int64Value, size > 0
        else { return [Finding("disk", .warn, "\(path) does not say how much is free")] }
        let text = "\(free >> 20) MiB of \(size >> 20) MiB free at \(path)"
        return switch free {
        case ..<(256 << 20): [Finding("disk", .fail, text, remedy: "make room before servers stop")]
        case ..<(2 << 30): [Finding("disk", .warn, text, remedy: "make room")]
        default: [Finding("disk", .ok, text)]
        }
    }

    /// What a process that is started as this one may have open.
    private func descriptors() -> Finding {
        do {
            let limit = try DescriptorLimit.raise()
            let text =
                "a gateway started like this holds \(connectionsMax(descriptors: limit)) agents: a process "
                + "may have \(limit) descriptors"
            return connectionsMax(descriptors: limit) < 20_000
                ? Finding(
                    "descriptors", .warn, text,
                    remedy: "raise it: LimitNOFILE= of a unit of systemd, or nofile in limits.conf")
                : Finding("descriptors", .ok, text)
        } catch {
            return Finding("descriptors", .warn, "\(error)", remedy: "see what ulimit -n says")
        }
    }

    // MARK: Processes

    private func processes() async -> [Finding] {
        do {
            let client = try connection.client()
            defer { client.close() }
            let workers = try await client.workers(PageOptions(limit: Limits.page.upperBound)).items
            return ["api", "gateway", "worker"].map { role in
                let running = workers.count { $0.role == role && $0.state == .running }
                let lost = workers.filter { $0.role == role && $0.state == .lost }
                guard running > 0 else {
                    return Finding(
                        "processes", .fail, "no \(role) runs", remedy: "start one: `cloudrmm serve`")
                }
                return lost.isEmpty
                    ? Finding("processes", .ok, "\(running) of the role \(role)")
                    : Finding(
                        "processes", .warn,
                        "\(running) of the role \(role), and \(lost.count) lost: on "
                            + Set(lost.map(\.host)).sorted().joined(separator: ", "),
                        remedy: "see why they ended; a day after their last word they are forgotten")
            }
        } catch {
            let sentence = (error as? Problem)?.line ?? (error as? Failure)?.message ?? "\(error)"
            return [
                Finding(
                    "processes", .warn, "the API does not tell: \(sentence)",
                    remedy: "start it, and give a key of the platform")
            ]
        }
    }
}
