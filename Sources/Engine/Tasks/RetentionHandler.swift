package import Domain
package import Ledger
import Postgres

/// Removes the jobs, runs, tasks and deliveries to webhooks of an organization that ended longer ago than it
/// keeps them.
///
/// Step by step, each committed by itself, so that another attempt goes on where one was broken off.
package struct RetentionHandler: TaskHandler {
    /// It is about the organization, nothing more.
    package struct Payload: Codable, Sendable {}

    /// Retention.
    package static let kind = TaskKind.retention

    /// For how many days what has ended is kept, unless an organization or the installation says otherwise.
    package static let defaultDays = 90
    /// What may be said.
    package static let days = 1...3_650

    private let ledger: Ledger
    private let defaultDays: Int
    private let limit: Int

    /// A handler on the worker's login; `limit` is how many runs, jobs and tasks a step removes.
    package init(ledger: Ledger, defaultDays: Int = Self.defaultDays, limit: Int = 500) {
        self.ledger = ledger
        self.defaultDays = defaultDays
        self.limit = limit
    }

    /// Removes until nothing is left that is old enough.
    package func handle(_ work: TaskAttempt<Payload>) async throws {
        let scope = Scope.organization(work.organization)
        guard let days = try await ledger.retentionDays(of: work.organization, scope: scope) else { return }
        while true {
            try Task.checkCancellation()
            let removed = try await ledger.removeEnded(
                before: days ?? defaultDays, of: work.organization, limit: limit)
            let deliveries = try await ledger.removeDeliveries(
                before: days ?? defaultDays, of: work.organization, limit: limit)
            if removed.isNothing, deliveries == 0 { return }
        }
    }

    /// Submits a task for each organization that has none of this day yet, a page of organizations at a time;
    /// returns how many. Of several workers that do it at once the first wins, by the key.
    package static func submitDaily(_ tasks: Tasks, _ ledger: Ledger, at now: Instant) async throws -> Int {
        let key = String(now.description.prefix(10))
        var (last, submitted) = (OrganizationID(.zero), 0)
        while true {
            let page = try await ledger.organizationsWithout(key: key, of: kind, after: last, limit: pageMax)
            let accepted = try await tasks.submit(
                page.map { organization in
                    var request = try TaskRequest(Self.self, Payload(), of: organization)
                    (request.key, request.priority) = (key, .bulk)
                    request.policy.timeoutSeconds = 3_600
                    return request
                }, scope: .platform)
            for case .accepted in accepted { submitted += 1 }
            guard page.count == pageMax, let end = page.last else { return submitted }
            last = end
        }
    }

    private static let pageMax = 500
}
