import ArgumentParser
import Client
import Domain
import Wire

extension Queues {
    struct Quota: AsyncParsableCommand {
        static let configuration = CommandConfiguration(
            abstract: "Show or set how much an organization may have open.",
            discussion: """
                Without options it is shown. What is submitted beyond it is refused, with the time to wait \
                for room. An option that is not given stays as it is.
                """)
        @Argument(help: "The organization's id.") var organization: OrganizationID
        @Option(help: "The most open runs, or default.") var openRuns: String?
        @Option(help: "The most bytes of open jobs, or default.") var openBytes: String?
        @OptionGroup var connection: ConnectionOptions

        func run() async throws {
            try await operate(connection) { api in
                let runs = try Self.limit(openRuns, option: "--open-runs")
                let bytes = try Self.limit(openBytes, option: "--open-bytes")
                guard runs != nil || bytes != nil else {
                    connection.show(try await api.quota(of: organization))
                    return
                }
                // Judged here as the server does, so that a mistake is told without it.
                var new = try NewQuota.decode(NewQuota(openRuns: runs ?? nil, openBytes: bytes ?? nil).json)
                if runs == nil || bytes == nil {
                    let set = try await api.quota(of: organization)
                    if runs == nil { new.openRuns = set.openRuns.isDefault ? nil : set.openRuns.limit }
                    if bytes == nil { new.openBytes = set.openBytes.isDefault ? nil : set.openBytes.limit }
                }
                connection.show(try await api.setQuota(new, of: organization))
            }
        }

        /// What an option says: nothing, the default, or a number.
        private static func limit(_ text: String?, option: String) throws -> Int?? {
            guard let text else { return nil }
            if text == "default" { return .some(nil) }
            guard let number = Int(text) else {
                throw Failure(
                    .usage, "\(option) is \"\(printable(text))\"; allowed are a number and default")
            }
            return .some(number)
        }
    }
}

extension ConnectionOptions {
    fileprivate func show(_ quota: QueueQuota) {
        switch output {
        case .json: Terminal.print(json: quota)
        case .table:
            var table = Table("QUOTA", "USED", "LIMIT", "SET")
            for (name, use) in [("open runs", quota.openRuns), ("open bytes", quota.openBytes)] {
                table.add(name, "\(use.used)", "\(use.limit)", use.isDefault ? "by default" : "")
            }
            table.print()
        }
    }
}
