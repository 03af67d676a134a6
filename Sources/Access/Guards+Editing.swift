package import Domain
package import Ledger
import Trust

extension Guards {
    /// A partner's own thresholds: the row, or what holds without one.
    /// - Throws: `alteredRow` where the row was altered or taken away outside the API.
    package func shown(_ partner: PartnerID, to caller: Principal) async throws -> GuardRow {
        let (row, isAltered) = try await row(
            of: partner, level: caller.require(.guardsRead), evenArchived: true)
        guard !isAltered else {
            throw AccessError(
                .alteredRow,
                "the partner's guard was altered or taken away outside the API, so nothing is submitted for "
                    + "it until somebody sets it anew")
        }
        return row ?? Self.withoutRow(partner)
    }

    /// Edits a partner's thresholds. Who loosens one is a key, or a person with a fresh second factor; a row
    /// that was altered is set anew from the built-in thresholds, and that counts as loosening.
    package func edit(
        _ partner: PartnerID, version: Int?, by caller: Principal, _ change: (inout GuardRules) throws -> Void
    ) async throws -> GuardRow {
        let time = now()
        let level = try caller.require(.guardsWrite)
        let (row, isAltered) = try await row(of: partner, level: level)
        let before = row ?? Self.withoutRow(partner)
        if let version, version != before.version { throw AccessError.changedMeanwhile }
        var rules = isAltered ? Self.builtIn : before.rules
        try change(&rules)
        let inForce = isAltered || before.expiresAt > time ? before.rules : Self.afterEnd(before.rules)
        if isAltered || rules.isLooser(than: inForce) {
            try caller.requireFresh(
                within: isAltered ? Self.builtIn.stepUpSeconds : inForce.stepUpSeconds, at: time,
                for: "loosening a guard")
        }
        // What an altered row says of its version is believed no more than the rest of it.
        let floor = max(revocations.floor(of: partner.guardSubject), Self.versionWithoutRow)
        var written = GuardRow(
            partner: partner, rules: rules, expiresAt: time + Rights.lifetime,
            version: (isAltered ? floor : before.version) + 1, updatedBy: caller.maker, updatedAt: time)
        written.mac = seals.seal(written.sealedParts)
        guard try await ledger.write(written, over: row?.version, scope: level.scope) else {
            throw AccessError.changedMeanwhile
        }
        // The row as it was, brought back, or none at all, is void from here on.
        try await revocations.revoke(partner.guardSubject, below: written.version, at: time)
        forget()
        return written
    }

    private static func withoutRow(_ partner: PartnerID) -> GuardRow {
        GuardRow(
            partner: partner, rules: builtIn, expiresAt: partner.value.createdAt,
            version: versionWithoutRow, updatedBy: nil, updatedAt: partner.value.createdAt)
    }

    /// The row of a partner that is the level or below it, and whether it, or its absence, is not the API's.
    private func row(
        of partner: PartnerID, level: Level, evenArchived: Bool = false
    ) async throws -> (GuardRow?, isAltered: Bool) {
        let edges = try await ledger.edges(of: partner, scope: level.scope)
        do throws(EdgeRefusal) {
            try judge.require(edges, upTo: level, evenArchived: evenArchived)
        } catch {
            throw AccessError(error, field: nil)
        }
        try await revocations.refresh(at: now())
        guard let row = try await ledger.guards(of: [partner])[partner] ?? nil else {
            return (nil, revocations.isVoid(partner.guardSubject, version: Self.versionWithoutRow))
        }
        return (row, !holds(row))
    }
}
