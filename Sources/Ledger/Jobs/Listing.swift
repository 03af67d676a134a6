import Domain
import Postgres

/// A page of a table's rows by id, of one organization or of all that a scope sees.
struct Listing {
    let table: SQL
    let isNewestFirst: Bool
    let limit: Int
    /// What a row `t` has to meet.
    var condition: SQL = "true"
    /// The ids between which the page lies, neither of them included.
    var after = UniqueID.zero
    var before = UniqueID(high: .max, low: .max)

    /// What comes behind FROM, with the rows under this name.
    func page(of organization: OrganizationID?, scope: Scope, as name: SQL) -> SQL {
        let keys: SQL
        if let organization {
            keys = self.keys(of: "\(organization)", limit: limit)
        } else if scope == .platform {
            keys = keysOfEverybody
        } else {
            keys = keysOfSome
        }
        return """
            (\(fragment: keys)) p CROSS JOIN LATERAL (
                SELECT * FROM \(fragment: table)
                WHERE organization_id = p.organization_id AND id = p.id OFFSET 0) \(fragment: name)
            ORDER BY \(fragment: name).id \(fragment: direction)
            """
    }

    private var direction: SQL { isNewestFirst ? "DESC" : "ASC" }
    private var bounds: (after: ID<Never>, before: ID<Never>) { (ID(after), ID(before)) }

    /// Of one organization. Both columns stand everywhere: with an equality on the first, the rows of all
    /// organizations would rather be walked by id.
    private func keys(of organization: SQL, limit: Int) -> SQL {
        """
        SELECT t.organization_id, t.id FROM \(fragment: table) t
        WHERE t.organization_id IS NOT NULL
          AND (t.organization_id, t.id) > (\(fragment: organization), \(bounds.after))
          AND (t.organization_id, t.id) < (\(fragment: organization), \(bounds.before))
          AND \(fragment: condition)
        ORDER BY t.organization_id \(fragment: direction), t.id \(fragment: direction) LIMIT \(limit)
        """
    }

    /// Of a scope's organizations, without a walk over the rows of others: a page has rows of those alone
    /// whose own first rows come first, so each is asked for one, and only these for more.
    private var keysOfSome: SQL {
        """
        SELECT r.organization_id, r.id FROM (
            SELECT o.id FROM (
                SELECT unnest(crmm_organizations())
                UNION SELECT organization_id FROM sites WHERE id = crmm_site()) o (id)
            CROSS JOIN LATERAL (\(fragment: keys(of: "o.id", limit: 1))) f
            ORDER BY f.id \(fragment: direction) LIMIT \(limit)) o
        CROSS JOIN LATERAL (\(fragment: keys(of: "o.id", limit: limit))) r
        ORDER BY r.id \(fragment: direction) LIMIT \(limit)
        """
    }

    /// For who sees every row.
    private var keysOfEverybody: SQL {
        """
        SELECT t.organization_id, t.id FROM \(fragment: table) t
        WHERE t.id > \(bounds.after) AND t.id < \(bounds.before) AND \(fragment: condition)
        ORDER BY t.id \(fragment: direction) LIMIT \(limit)
        """
    }
}
