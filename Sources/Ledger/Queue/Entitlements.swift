package import Domain
package import Postgres

/// What the queue must know of an organization beside its runs.
package struct OrganizationLimits: Sendable, Hashable {
    /// Which one.
    package let organization: OrganizationID
    /// Its weight, and the most runs it may have on devices.
    package let weight: Double
    package let cap: Int?
    /// How many interactive runs a second, and at once, go before its standard ones, unless by default.
    package let interactiveRate: Double?
    package let interactiveBurst: Int?

    /// The limits of an organization.
    package init(
        organization: OrganizationID, weight: Double, cap: Int?, interactiveRate: Double?,
        interactiveBurst: Int?
    ) {
        self.organization = organization
        self.weight = weight
        self.cap = cap
        self.interactiveRate = interactiveRate
        self.interactiveBurst = interactiveBurst
    }
}

extension Ledger {
    /// What differs from the default.
    package func limits() async throws -> [OrganizationLimits] {
        try await pool.query(
            """
            SELECT \(fragment: Self.limitColumns) FROM organizations o
            WHERE o.weight <> 1 OR o.running_cap IS NOT NULL
               OR o.interactive_rate IS NOT NULL OR o.interactive_burst IS NOT NULL
            """, scope: .platform, decode: Self.limit)
    }

    /// Those of these organizations, in the order of their ids; one that the scope does not see is absent.
    package func limits(of organizations: [OrganizationID], scope: Scope) async throws -> [OrganizationLimits]
    {
        try await pool.query(
            """
            SELECT \(fragment: Self.limitColumns) FROM unnest(\(organizations)) AS i(id)
            CROSS JOIN LATERAL (SELECT * FROM organizations o WHERE o.id = i.id OFFSET 0) o
            ORDER BY o.id
            """, scope: scope, decode: Self.limit)
    }

    /// Sets an organization's weight and commits; `false` if the scope does not see it.
    package func setWeight(_ weight: Double, of organization: OrganizationID, scope: Scope) async throws
        -> Bool
    {
        try await pool.execute(
            "UPDATE organizations SET weight = \(weight) WHERE id = \(organization)", scope: scope) > 0
    }

    /// Sets how many runs of an organization may be on devices, `nil` for any number, and commits; `false` if
    /// the scope does not see it.
    package func setCap(_ cap: Int?, of organization: OrganizationID, scope: Scope) async throws -> Bool {
        try await pool.execute(
            """
            UPDATE organizations SET running_cap = \(cap.map { Int32($0) }) WHERE id = \(organization)
            """, scope: scope) > 0
    }

    /// Sets how many interactive runs of an organization go before its standard ones, a second and at once,
    /// `nil` for the default of either, and commits; `false` if the scope does not see it.
    package func setInteractive(
        rate: Double?, burst: Int?, of organization: OrganizationID, scope: Scope
    ) async throws -> Bool {
        try await pool.execute(
            """
            UPDATE organizations
            SET interactive_rate = \(rate), interactive_burst = \(burst.map { Int32($0) })
            WHERE id = \(organization)
            """, scope: scope) > 0
    }

    private static let limitColumns: SQL =
        "o.id, o.weight, o.running_cap, o.interactive_rate, o.interactive_burst"

    @Sendable private static func limit(_ row: PostgresRow) throws -> OrganizationLimits {
        let (id, weight, cap, rate, burst) = try row.decode(
            (OrganizationID, Double, Int32?, Double?, Int32?).self)
        return OrganizationLimits(
            organization: id, weight: weight, cap: cap.map(Int.init), interactiveRate: rate,
            interactiveBurst: burst.map(Int.init))
    }
}
