package import Domain
package import Ledger
package import Outbound
import Postgres
package import Trust

/// Makes and changes webhooks. Their secrets are sealed here and shown once.
package struct WebhookMaker: Sendable {
    private let authenticator: Authenticator
    private let keys: SealingKeys
    private let networks: AllowedNetworks
    private var ledger: Ledger { authenticator.ledger }

    /// A maker on the authenticator's rows and clock. `networks` are those that webhooks may be in although
    /// they are not public.
    package init(_ authenticator: Authenticator, keys: SealingKeys, networks: AllowedNetworks) {
        (self.authenticator, self.keys, self.networks) = (authenticator, keys, networks)
    }

    /// Makes a webhook of a level within the maker's reach.
    package func create(
        url: String, description: String, events: [WebhookEventType], home: Level, by maker: Principal
    ) async throws -> (row: WebhookRow, secret: String) {
        try await authenticator.checkReach(of: [.webhooksWrite], on: home, for: maker)
        if case .site = home {
            throw AccessError(
                .invalid, field: "siteId", "a webhook belongs to the platform, a partner or an organization")
        }
        try check(url)
        let time = authenticator.now()
        let secret = Self.newSecret()
        var row = WebhookRow(
            id: .new(at: time), home: LevelColumns(home), url: url, description: description,
            events: Self.unique(events), sealed: [], createdBy: maker.maker, createdAt: time)
        row.sealed = [try seal(secret, of: row)]
        guard try await ledger.insert(row, scope: home.scope) else {
            throw AccessError(.conflict, "there are \(Ledger.webhooksMax) webhooks here, which is the limit")
        }
        return (row, secret)
    }

    /// Edits a webhook; what is `nil` stays. Whoever enables it has its failures forgotten.
    package func edit(
        _ id: WebhookID, url: String? = nil, description: String? = nil, events: [WebhookEventType]? = nil,
        isDisabled: Bool? = nil, version: Int?, by caller: Principal
    ) async throws -> WebhookRow {
        let level = try caller.require(.webhooksWrite)
        var row = try await found(id, version: version, level: level)
        if let url { try check(url) }
        (row.url, row.description) = (url ?? row.url, description ?? row.description)
        row.events = events.map(Self.unique) ?? row.events
        switch isDisabled {
        case true? where row.state == .active:
            (row.state, row.disabledReason, row.disabledAt) = (.disabled, nil, authenticator.now())
        case false? where row.state != .active:
            (row.state, row.disabledReason, row.disabledAt) = (.active, nil, nil)
        case true?, false?, nil: break
        }
        row.version += 1
        guard try await ledger.update(row, scope: level.scope) else { throw AccessError.changedMeanwhile }
        return try await found(id, version: nil, level: level)
    }

    /// Gives a webhook another secret; the one before signs too for `overlap`.
    package func rotate(
        _ id: WebhookID, overlap: Duration, version: Int?, by caller: Principal
    ) async throws -> (row: WebhookRow, secret: String) {
        let level = try caller.require(.webhooksWrite)
        var row = try await found(id, version: version, level: level)
        let secret = Self.newSecret()
        row.secretVersion += 1
        row.previousExpiresAt = overlap > .zero ? authenticator.now() + overlap : nil
        row.sealed = [try seal(secret, of: row)] + (overlap > .zero ? row.sealed.prefix(1) : [])
        row.version += 1
        guard try await ledger.updateSecret(of: row, scope: level.scope) else {
            throw AccessError.changedMeanwhile
        }
        return (row, secret)
    }

    /// Takes a webhook away, with the log of its deliveries.
    package func delete(_ id: WebhookID, version: Int?, by caller: Principal) async throws {
        let level = try caller.require(.webhooksWrite)
        _ = try await found(id, version: version, level: level)
        guard try await ledger.deleteWebhook(id, version: version, scope: level.scope) else {
            throw AccessError.changedMeanwhile
        }
    }

    // MARK: Parts

    private func found(_ id: WebhookID, version: Int?, level: Level) async throws -> WebhookRow {
        guard let row = try await ledger.webhook(id, scope: level.scope) else {
            throw AccessError.nothingHere
        }
        if let version, version != row.version { throw AccessError.changedMeanwhile }
        return row
    }

    private func seal(_ secret: String, of row: WebhookRow) throws -> [UInt8] {
        let label = SecretLabel.webhook(
            row.id, partner: row.home.partner, organization: row.home.organization,
            version: row.secretVersion)
        return try keys.seal(SecretBytes(Array(secret.utf8)), for: label).bytes
    }

    private static func newSecret() -> String { "whsec_" + Base64URL.encode(randomBytes(32)) }

    // In the order of the list of types, each once.
    private static func unique(_ events: [WebhookEventType]) -> [WebhookEventType] {
        WebhookEventType.allCases.filter(events.contains)
    }

    /// Refuses what can be told from the text; where a name leads is judged each time it is told.
    private func check(_ url: String) throws {
        func refuse(_ message: String) -> AccessError { AccessError(.invalid, field: "url", message) }
        guard let scheme = ["https://", "http://"].first(where: url.lowercased().hasPrefix),
            scheme == "https://" || !networks.isEmpty
        else { throw refuse("must begin with https://") }
        guard url.utf8.allSatisfy({ $0 > 0x20 && $0 < 0x7F && $0 != UInt8(ascii: "\\") }) else {
            throw refuse("must be printable ASCII without blanks and backslashes")
        }
        let authority = url.dropFirst(scheme.count).prefix { !"/?#".contains($0) }
        guard !authority.contains("@"), !url.contains("#") else {
            throw refuse("must have no user, password and fragment")
        }
        let host =
            authority.hasPrefix("[")
            ? authority.dropFirst().prefix { $0 != "]" } : authority.prefix { $0 != ":" }
        guard !host.isEmpty else { throw refuse("must have a host") }
        guard let address = AddressGuard.address(of: String(host)) else { return }
        if let reason = AddressGuard.refusal(for: address), !networks.contains(address) {
            throw refuse("has an address that is not allowed: \(reason)")
        }
    }
}
