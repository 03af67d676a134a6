import Domain
import Ledger
import Trust
import Wire

/// Finds the values that jobs are signed for.
///
/// A job is given the nearest secret of a name: of the device's site, its organization, its partner or the
/// platform. Which of them a caller may use is what the scope of its permission shows: whoever reaches one
/// organization is given nothing of its partner's, which other organizations rely on.
struct SecretResolver: Sendable {
    /// The bytes of all values that one script is given.
    static let bytesMax = 64 << 10

    let ledger: Ledger
    let keys: SealingKeys

    /// The values of a script for the devices of an organization, or of one site of it; where several sites
    /// are meant, a site that has a secret of its own is given that.
    ///
    /// The hashes are computed from what the seals hold: a row is believed only as far as it opens.
    func secrets(
        of script: Script, for organization: OrganizationID, site: SiteID?, level: Level
    ) async throws -> [SignedSecret] {
        let names = Set(script.secrets.map(\.name.text)).sorted()
        let rows = try await ledger.secrets(
            named: names, for: organization, site: site, limit: Limits.signedSecretsMax + 1,
            scope: level.scope)
        guard rows.count <= Limits.signedSecretsMax else {
            throw EngineError(
                .invalid, field: "script.secrets",
                "names more than \(Limits.signedSecretsMax) secrets with those of single sites, which is the "
                    + "limit; make a job for each site")
        }
        var signed: [SignedSecret] = []
        var sizes: [SecretName: Int] = [:]
        for (index, use) in script.secrets.enumerated() where sizes[use.name] == nil {
            let chosen = Self.choose(rows.filter { $0.name == use.name.text }, site: site)
            guard !chosen.isEmpty else {
                throw EngineError(
                    .invalid, field: "script.secrets[\(index)].name",
                    "names no secret that you may use"
                        + (site == nil ? " for devices of every site of the target" : ""))
            }
            for row in chosen {
                let salted = try open(row, index)
                sizes[use.name] = max(sizes[use.name] ?? 0, salted.bytes.count)
                signed.append(
                    SignedSecret(
                        id: row.id, name: use.name, version: row.secretVersion, hash: salted.hash,
                        site: row.site))
            }
        }
        let bytes = script.secrets.reduce(0) { $0 + (sizes[$1.name] ?? 0) }
        guard bytes <= Self.bytesMax else {
            throw EngineError(
                .invalid, field: "script.secrets",
                "has \(bytes) bytes of values with their salts; allowed are \(Self.bytesMax)")
        }
        return signed
    }

    /// The rows that devices are given: the nearest above the sites, and those of sites. Nothing if a site
    /// may be without one.
    private static func choose(_ rows: [SecretRow], site: SiteID?) -> [SecretRow] {
        let ofSites = rows.filter { $0.site != nil }
        if site != nil, let own = ofSites.first { return [own] }
        let nearest =
            rows.first { $0.site == nil && $0.organization != nil } ?? rows.first { $0.partner != nil }
            ?? rows.first { $0.home == .platform }
        return nearest.map { [$0] + ofSites } ?? []
    }

    private func open(_ row: SecretRow, _ index: Int) throws(EngineError) -> SaltedSecret {
        do {
            return try row.opened(version: row.secretVersion, with: keys)
        } catch {
            throw EngineError(
                .alteredRow, field: "script.secrets[\(index)].name",
                "names a secret that does not open: its row was altered, or its key is not here; rotate it")
        }
    }
}

extension SecretRow {
    /// A value, out of its seal; throws if there is none of this version, or it is not what was sealed.
    func opened(version: Int, with keys: SealingKeys) throws(TrustError) -> SaltedSecret {
        guard let sealed = sealed(version: version) else {
            throw TrustError(.malformed, "the value \(version) is not kept any more")
        }
        let label = SecretLabel.script(
            name, partner: partner, organization: organization, site: site, version: version)
        return try SaltedSecret(opened: keys.open(SealedSecret(bytes: sealed), for: label))
    }
}
