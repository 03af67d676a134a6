import ArgumentParser
import Client
import Domain
import Wire

extension Queues {
    struct LimitRuns: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            commandName: "limits",
            abstract: "Show or replace an organization's limits by job, site, kind, device and lane.",
            discussion: """
                Without options they are shown. --limit SCOPE=N or SCOPE:KEY=N replaces them all: `kind=5` \
                is five of each kind, `kind:script=2` two scripts, `lane:DEVICE/1=1` one script of a device.
                """)
        @Argument(help: "The organization's id.") var organization: OrganizationID
        @Option(help: "The most runs on devices: SCOPE[:KEY]=N. May be given several times.")
        var limit: [String] = []
        @Option(help: "How many runs may begin a second.") var rate: Double?
        @Option(help: "How many of them at once; with --rate.") var burst: Int?
        @Flag(help: "Remove all limits.") var none = false
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                guard none || !limit.isEmpty || rate != nil || burst != nil else {
                    connection.show(try await api.limits(of: organization))
                    return
                }
                connection.show(try await api.limit(organization, try request()))
            }
        }

        private func request() throws -> QueueLimits {
            guard !none || limit.isEmpty && rate == nil && burst == nil else {
                throw Failure(.usage, "--none stands alone")
            }
            guard (rate == nil) == (burst == nil) else {
                throw Failure(.usage, "--rate and --burst stand together")
            }
            let new = QueueLimits(
                limits: try limit.map(Self.limit),
                rate: rate.flatMap { rate in burst.map { QueueRate(perSecond: rate, burst: $0) } })
            // Judged here as the server does, so that a mistake is told without it.
            return try QueueLimits.decode(new.json)
        }

        private static func limit(_ text: String) throws -> QueueLimit {
            let sides = text.split(separator: "=", maxSplits: 1)
            let words = (sides.first ?? "").split(separator: ":", maxSplits: 1)
            guard sides.count == 2, let running = Int(sides[1]), let name = words.first,
                let scope = LimitScope(rawValue: String(name))
            else {
                let scopes = LimitScope.allCases.map(\.rawValue).joined(separator: ", ")
                throw Failure(
                    .usage,
                    "\"\(printable(text))\" is no limit: SCOPE[:KEY]=N is expected, with a scope of \(scopes)"
                )
            }
            return QueueLimit(
                scope: scope, key: words.count == 2 ? String(words[1]) : nil, running: running)
        }
    }
}

extension ConnectionOptions {
    fileprivate func show(_ limits: QueueLimits) {
        switch output {
        case .json: Terminal.print(json: limits)
        case .table:
            let table = Table("SCOPE", "KEY", "RUNNING")
            show(limits.limits, table) { table, limit in
                table.add(limit.scope.rawValue, limit.key ?? "each", "\(limit.running)")
            }
            if let rate = limits.rate {
                Terminal.print("\(rate.perSecond) runs a second, \(rate.burst) at once")
            }
        }
    }
}
