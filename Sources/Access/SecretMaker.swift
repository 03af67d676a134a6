package import Domain
package import Ledger
import Postgres
package import Trust

/// Makes secrets, gives them other values and takes them away. Their values are sealed here and come out of
/// nothing here again.
package struct SecretMaker: Sendable {
    private let authenticator: Authenticator
    private let keys: SealingKeys
    private var ledger: Ledger { authenticator.ledger }

    /// A maker on the authenticator's rows and clock.
    package init(_ authenticator: Authenticator, keys: SealingKeys) {
        (self.authenticator, self.keys) = (authenticator, keys)
    }

    /// Makes a secret of a level within the maker's reach.
    package func create(
        name: String, value: SecretBytes, description: String, home: Level, by maker: Principal
    ) async throws -> SecretRow {
        let reach = try maker.require(.secretsWrite)
        try await authenticator.checkReach(of: [.secretsWrite], on: home, for: maker)
        var organization: OrganizationID?
        if case .site(let site) = home {
            organization = try await ledger.site(site, scope: reach.scope)?.organization
        }
        let time = authenticator.now()
        var row = SecretRow(
            id: .new(at: time), home: home, organization: organization, name: name, description: description,
            createdBy: maker.maker, createdAt: time)
        row.sealed = [try seal(value, of: row)]
        guard try await ledger.insert(row, scope: reach.scope) else {
            guard try await ledger.secret(named: name, of: home, scope: reach.scope) == nil else {
                throw AccessError(
                    .conflict, field: "name", "is there already: rotate that one to give it another value")
            }
            throw AccessError(.conflict, "there are \(Ledger.secretsMax) secrets here, which is the limit")
        }
        return row
    }

    /// Gives a secret another value. Jobs that were signed for the one before still get that, until the
    /// secret is rotated once more.
    package func rotate(
        _ id: SecretID, to value: SecretBytes, version: Int?, by caller: Principal
    ) async throws -> SecretRow {
        let level = try caller.require(.secretsWrite)
        var row = try await found(id, version: version, level: level)
        row.secretVersion += 1
        row.version += 1
        row.sealed = [try seal(value, of: row)] + row.sealed.prefix(1)
        guard try await ledger.updateSecret(row, scope: level.scope) else {
            throw AccessError.changedMeanwhile
        }
        return try await found(id, version: nil, level: level)
    }

    /// Takes a secret away: no job is given it any more, whenever it was signed.
    package func delete(_ id: SecretID, version: Int?, by caller: Principal) async throws {
        let level = try caller.require(.secretsWrite)
        _ = try await found(id, version: version, level: level)
        guard try await ledger.deleteSecret(id, version: version, scope: level.scope) else {
            throw AccessError.changedMeanwhile
        }
    }

    private func found(_ id: SecretID, version: Int?, level: Level) async throws -> SecretRow {
        guard let row = try await ledger.secret(id, scope: level.scope) else { throw AccessError.nothingHere }
        if let version, version != row.version { throw AccessError.changedMeanwhile }
        return row
    }

    private func seal(_ value: SecretBytes, of row: SecretRow) throws -> [UInt8] {
        let label = SecretLabel.script(
            row.name, partner: row.partner, organization: row.organization, site: row.site,
            version: row.secretVersion)
        return try keys.seal(SaltedSecret(value).bytes, for: label).bytes
    }
}
