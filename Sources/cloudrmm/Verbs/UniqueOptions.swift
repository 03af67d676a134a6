import ArgumentParser
import Domain
import Wire

/// Which other jobs a job must not stand beside.
struct UniqueOptions: ParsableArguments {
    @Option(help: "What names the same work: no other job of this key is made while one holds it.")
    var uniqueKey: String?
    @Option(help: "Within what the key is unique: organization, site or device; organization by default.")
    var uniqueScope: UniqueScope?
    @Option(help: "How far the job is that holds the key: queued, or running, which is until it has ended.")
    var uniqueWhile: UniqueState?
    @Option(help: "If another holds the key: reject, return it, or replace it, which cancels it.")
    var onConflict: UniqueConflict?

    /// What the options describe, if they describe something.
    func unique() throws -> Unique? {
        guard let uniqueKey else {
            guard uniqueScope == nil, uniqueWhile == nil, onConflict == nil else {
                throw Failure(
                    .usage,
                    "--unique-scope, --unique-while and --on-conflict stand only with --unique-key")
            }
            return nil
        }
        return Unique(
            key: uniqueKey, scope: uniqueScope ?? .organization,
            while: uniqueWhile == .queued ? [.queued] : UniqueState.allCases,
            onConflict: onConflict ?? .reject)
    }
}

extension UniqueScope: ExpressibleByArgument {}
extension UniqueConflict: ExpressibleByArgument {}
extension UniqueState: ExpressibleByArgument {}
