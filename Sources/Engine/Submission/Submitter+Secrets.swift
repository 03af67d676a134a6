package import Domain
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

    /// Says where whoever submits may use secrets, if anywhere; asked only of what names some.
    /// - Throws: `stepUpRequired` where a second factor has to be shown first.
    package typealias SecretsReach = @Sendable () async throws -> Level?

    /// Where secrets may be used, or why what names some is refused.
    func secretsLevel(
        of requests: [JobRequest], _ reach: SecretsReach
    ) async throws -> (level: Level?, refusal: EngineError?) {
        guard requests.contains(where: \.job.namesSecrets) else { return (nil, nil) }
        do {
            return (try await reach(), nil)
        } catch let error as EngineError {
            return (nil, error)
        }
    }

    /// The values of those requests whose scripts name secrets, by their places. A request whose target is
    /// refused is left to be refused for that.
    func signedSecrets(
        of requests: [JobRequest], _ targets: [Result<JudgedTarget, EngineError>], level: Level?
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
            guard case .success(let target) = targets[index] else { continue }
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

extension NewJob {
    var namesSecrets: Bool { !(script?.secrets.isEmpty ?? true) }
}
