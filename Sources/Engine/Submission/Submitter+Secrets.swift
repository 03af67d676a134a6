import Domain
import Ledger
import Trust
import Wire

/// Secrets that jobs name, judged before anything is signed.
extension Submitter {
    /// What one script may be given in one place.
    private struct Wish: Hashable {
        let names: [SecretUse]
        let organization: OrganizationID
        let site: SiteID?

        func hash(into hasher: inout Hasher) {
            hasher.combine(organization)
            hasher.combine(site)
            for use in names { hasher.combine(use.name) }
        }
    }

    /// The values of those requests whose scripts name secrets, by their places. A request whose target is
    /// refused is left to be refused for that.
    func signedSecrets(
        of requests: [JobRequest], _ places: Places, level: Level?
    ) async throws -> [Int: Result<[SignedSecret], EngineError>] {
        var found: [Int: Result<[SignedSecret], EngineError>] = [:]
        var known: [Wish: Result<[SignedSecret], EngineError>] = [:]
        for (index, request) in requests.enumerated() {
            guard let script = request.job.script, !script.secrets.isEmpty else { continue }
            guard let level else {
                found[index] = .failure(
                    EngineError(
                        .forbidden, field: "script.secrets",
                        "this needs the permission secrets:use, which you do not have"))
                continue
            }
            // Refused again, and told, where the job is prepared.
            guard let target = try? judge(request.job.target, places) else { continue }
            let wish = Wish(
                names: script.secrets, organization: target.organization,
                site: target.site ?? target.commonSite)
            if let known = known[wish] {
                found[index] = known
                continue
            }
            let outcome: Result<[SignedSecret], EngineError>
            do {
                try await requireReach(wish, level: level)
                outcome = .success(
                    try await secrets.secrets(
                        of: script, for: wish.organization, site: wish.site, level: level))
            } catch let error as EngineError {
                outcome = .failure(error)
            }
            (known[wish], found[index]) = (outcome, outcome)
        }
        return found
    }

    /// The target must lie within where the principal may use secrets, by edges that hold: they say whose
    /// secrets are above it.
    private func requireReach(_ wish: Wish, level: Level) async throws {
        let unseen = EngineError(
            .invalid, field: "script.secrets", "names no secret that you may use for this target")
        let edges: [SealedEdge]
        if case .site(let site) = level {
            guard wish.site == site else { throw unseen }
            edges = try await ledger.site(site, scope: level.scope)?.edges ?? []
        } else {
            edges = try await ledger.edges(of: wish.organization, scope: level.scope)
        }
        do throws(EdgeRefusal) {
            try judge.require(edges, upTo: level)
        } catch {
            throw EngineError(error, unseen: unseen)
        }
    }
}
