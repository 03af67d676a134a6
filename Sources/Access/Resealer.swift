import Domain
package import Ledger
import Postgres
package import Trust

/// Puts all that is stored sealed under the key in force: secrets of scripts and webhooks, those of people's
/// authenticators, and those by which identity providers know this installation.
///
/// Each row is replaced by one statement, only if it still is what was read, and what is done is not found
/// again: it may be stopped anywhere, run twice at once, and begun anew. What does not open is left as it is
/// and counted.
package struct Resealer: Sendable {
    /// What a run has come to.
    package struct Outcome: Sendable, Equatable {
        /// How many rows are under the key in force now that were not.
        package var resealed = 0
        /// Rows that do not open, by table and id: altered, or under a key that is not here; and those that
        /// somebody changed each time.
        package var left: [String] = []
    }

    private let ledger: Ledger
    private let keys: SealingKeys
    private let seals: RowSeals
    private let batch: Int

    /// A resealer on the API's login.
    package init(ledger: Ledger, keys: SealingKeys, seals: RowSeals, batch: Int = 100) {
        (self.ledger, self.keys, self.seals, self.batch) = (ledger, keys, seals, batch)
    }

    /// Goes through everything once; `onStep` is told after each batch how far it is, and may end it by an
    /// error.
    package func run(onStep: (Outcome) throws -> Void = { _ in }) async throws -> Outcome {
        var outcome = Outcome()
        try await sweep("secrets", SecretID.self, &outcome, onStep) { after, limit in
            try await ledger.secrets(withoutMark: keys.mark, after: after, limit: limit).map { row in
                (row.id, { try await reseal(row) })
            }
        }
        try await sweep("webhooks", WebhookID.self, &outcome, onStep) { after, limit in
            try await ledger.webhooks(withoutMark: keys.mark, after: after, limit: limit).map { row in
                (row.id, { try await reseal(row) })
            }
        }
        try await sweep("user_credentials", UserID.self, &outcome, onStep) { after, limit in
            try await ledger.users(withoutMark: keys.mark, after: after, limit: limit).map { user in
                (user, { try await resealFactor(of: user) })
            }
        }
        try await sweep("oidc_providers", OIDCProviderID.self, &outcome, onStep) { after, limit in
            try await ledger.oidcProviders(withoutMark: keys.mark, after: after, limit: limit).map { row in
                (row.id, { try await reseal(row) })
            }
        }
        return outcome
    }

    private func sweep<Subject>(
        _ table: String, _: ID<Subject>.Type, _ outcome: inout Outcome, _ onStep: (Outcome) throws -> Void,
        _ next: (ID<Subject>, Int) async throws -> [(id: ID<Subject>, reseal: () async throws -> Bool)]
    ) async throws {
        // Who changes a row meanwhile has perhaps sealed it with the key before: it is looked at again.
        for round in 1...Self.roundsMax {
            var changed: [String] = []
            var after = ID<Subject>(.zero)
            while case let rows = try await next(after, batch), !rows.isEmpty {
                for row in rows {
                    after = row.id
                    let name = "\(table) \(row.id)"
                    guard !outcome.left.contains(name) else { continue }
                    do {
                        if try await row.reseal() { outcome.resealed += 1 } else { changed.append(name) }
                    } catch is TrustError {
                        outcome.left.append(name)
                    }
                }
                try onStep(outcome)
            }
            if changed.isEmpty { return }
            if round == Self.roundsMax { outcome.left += changed }
        }
    }

    private static let roundsMax = 5

    private func reseal(_ row: SecretRow) async throws -> Bool {
        let sealed = try row.sealed.enumerated().map { index, value in
            try resealed(
                value,
                .script(
                    row.name, partner: row.partner, organization: row.organization, site: row.site,
                    version: row.secretVersion - index))
        }
        return try await ledger.reseal(row.id, from: row.sealed, to: sealed)
    }

    private func reseal(_ row: WebhookRow) async throws -> Bool {
        let sealed = try row.sealed.enumerated().map { index, value in
            try resealed(
                value,
                .webhook(
                    row.id, partner: row.home.partner, organization: row.home.organization,
                    version: row.secretVersion - index))
        }
        return try await ledger.reseal(row.id, from: row.sealed, to: sealed)
    }

    /// The row's MAC covers the seal; one that does not hold is not made to.
    private func resealFactor(of user: UserID) async throws -> Bool {
        guard var row = try await ledger.credentials(of: user), let old = row.sealed else { return false }
        guard seals.holds(row.mac, row.sealedParts) else {
            throw TrustError(.badSeal, "the credentials of \(user) were altered")
        }
        row.sealed = try resealed(old, SignIn.label(user, row.version))
        row.mac = seals.seal(row.sealedParts)
        return try await ledger.reseal(row, from: old)
    }

    /// As above.
    private func reseal(_ provider: OIDCProviderRow) async throws -> Bool {
        guard let old = provider.terms.sealed else { return false }
        guard seals.holds(provider.mac, provider.sealedParts) else {
            throw TrustError(.badSeal, "the provider \(provider.id) was altered")
        }
        var row = provider
        row.terms.sealed = try resealed(old, row.secretLabel)
        row.mac = seals.seal(row.sealedParts)
        return try await ledger.reseal(row, from: old)
    }

    private func resealed(_ bytes: [UInt8], _ label: SecretLabel) throws(TrustError) -> [UInt8] {
        let sealed = try SealedSecret(bytes: bytes)
        guard keys.needsResealing(sealed) else { return bytes }
        return try keys.seal(keys.open(sealed, for: label), for: label).bytes
    }
}
