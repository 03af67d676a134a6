package import Domain
package import Postgres

/// The system of record: what is committed here happened, everything else is a copy.
///
/// One value over one login's pool; each file beside this one holds the statements of one concept and the
/// function that decodes their rows. Every call names the scope whose rows it may see.
package struct Ledger: Sendable {
    let pool: PostgresPool

    /// The ledger behind one login.
    package init(pool: PostgresPool) { self.pool = pool }

    /// The migrations of this release, oldest first.
    package static let migrations: [Migration] = [
        Migration(
            version: 1, name: "tenancy",
            sql: String(decoding: PackageResources.V0001_tenancy_sql, as: UTF8.self)),
        Migration(
            version: 2, name: "jobs", sql: String(decoding: PackageResources.V0002_jobs_sql, as: UTF8.self)),
        Migration(
            version: 3, name: "priorities",
            sql: String(decoding: PackageResources.V0003_priorities_sql, as: UTF8.self)),
        Migration(
            version: 4, name: "retries",
            sql: String(decoding: PackageResources.V0004_retries_sql, as: UTF8.self)),
        Migration(
            version: 5, name: "controls",
            sql: String(decoding: PackageResources.V0005_controls_sql, as: UTF8.self)),
        Migration(
            version: 6, name: "limits",
            sql: String(decoding: PackageResources.V0006_limits_sql, as: UTF8.self)),
        Migration(
            version: 7, name: "submission",
            sql: String(decoding: PackageResources.V0007_submission_sql, as: UTF8.self)),
        Migration(
            version: 8, name: "traces",
            sql: String(decoding: PackageResources.V0008_traces_sql, as: UTF8.self)),
        Migration(
            version: 9, name: "quotas",
            sql: String(decoding: PackageResources.V0009_quotas_sql, as: UTF8.self)),
        Migration(
            version: 10, name: "tasks",
            sql: String(decoding: PackageResources.V0010_tasks_sql, as: UTF8.self)),
        Migration(
            version: 11, name: "usage_checks",
            sql: String(decoding: PackageResources.V0011_usage_checks_sql, as: UTF8.self)),
        Migration(
            version: 12, name: "folds",
            sql: String(decoding: PackageResources.V0012_folds_sql, as: UTF8.self)),
        Migration(
            version: 13, name: "suspects",
            sql: String(decoding: PackageResources.V0013_suspects_sql, as: UTF8.self)),
        Migration(
            version: 14, name: "editing",
            sql: String(decoding: PackageResources.V0014_editing_sql, as: UTF8.self)),
        Migration(
            version: 15, name: "principals",
            sql: String(decoding: PackageResources.V0015_principals_sql, as: UTF8.self)),
        Migration(
            version: 16, name: "audit",
            sql: String(decoding: PackageResources.V0016_audit_sql, as: UTF8.self)),
        Migration(
            version: 17, name: "sessions",
            sql: String(decoding: PackageResources.V0017_sessions_sql, as: UTF8.self)),
        Migration(
            version: 19, name: "webhooks",
            sql: String(decoding: PackageResources.V0019_webhooks_sql, as: UTF8.self)),
        Migration(
            version: 21, name: "lifecycle",
            sql: String(decoding: PackageResources.V0021_lifecycle_sql, as: UTF8.self)),
        Migration(
            version: 22, name: "oidc", sql: String(decoding: PackageResources.V0022_oidc_sql, as: UTF8.self)),
        Migration(
            version: 23, name: "secrets",
            sql: String(decoding: PackageResources.V0023_secrets_sql, as: UTF8.self)),
        Migration(
            version: 24, name: "guards",
            sql: String(decoding: PackageResources.V0024_guards_sql, as: UTF8.self)),
        Migration(
            version: 25, name: "erasing",
            sql: String(decoding: PackageResources.V0025_erasing_sql, as: UTF8.self)),
        Migration(
            version: 26, name: "sealed_erasures",
            sql: String(decoding: PackageResources.V0026_sealed_erasures_sql, as: UTF8.self)),
        Migration(
            version: 27, name: "waiting",
            sql: String(decoding: PackageResources.V0027_waiting_sql, as: UTF8.self)),
        Migration(
            version: 28, name: "enrollment_tokens",
            sql: String(decoding: PackageResources.V0028_enrollment_tokens_sql, as: UTF8.self)),
        Migration(
            version: 29, name: "revocation",
            sql: String(decoding: PackageResources.V0029_revocation_sql, as: UTF8.self)),
        Migration(
            version: 30, name: "presence",
            sql: String(decoding: PackageResources.V0030_presence_sql, as: UTF8.self)),
        Migration(
            version: 31, name: "key_sets",
            sql: String(decoding: PackageResources.V0031_key_sets_sql, as: UTF8.self)),
        Migration(
            version: 32, name: "renewal",
            sql: String(decoding: PackageResources.V0032_renewal_sql, as: UTF8.self)),
    ]

    /// Succeeds when the database answers.
    package func ping() async throws { _ = try await pool.execute("SELECT 1", scope: .none) }

    /// Whether row-level security does not hold for this login.
    package func isAboveRowSecurity() async throws -> Bool {
        try await pool.query(
            "SELECT rolsuper OR rolbypassrls FROM pg_roles WHERE rolname = current_user", scope: .none
        ) { row in try row.decode(Bool.self) }.first ?? true
    }

    /// Sets the password of a service's login; only the owner may.
    package func setPassword(_ password: String, of login: String) async throws {
        try await pool.execute("SELECT crmm_set_password(\(login), \(password))", scope: .none)
    }

    /// The installation's id: made at first use, the same ever after.
    package func deployment(orCreate proposed: DeploymentID) async throws -> DeploymentID {
        try await pool.execute(
            "INSERT INTO deployment (id) VALUES (\(proposed)) ON CONFLICT DO NOTHING", scope: .platform)
        return try await deployment()
    }

    /// The installation's id; it was made by the first API.
    package func deployment() async throws -> DeploymentID {
        let ids = try await pool.query("SELECT id FROM deployment", scope: .platform) { row in
            try row.decode(DeploymentID.self)
        }
        guard let id = ids.first else {
            throw LedgerError(.notFound, "the installation has no id yet: start the API role first")
        }
        return id
    }
}

/// Why the ledger refused.
package struct LedgerError: Error, CustomStringConvertible {
    /// What kind of refusal this is.
    package enum Code: String, Sendable {
        /// No such row in this scope.
        case notFound
        /// The row is there, but not in a state that allows this.
        case conflict
        /// The same idempotency key came with another body.
        case idempotencyConflict
    }

    /// What kind of refusal this is.
    package let code: Code
    /// One sentence.
    package let message: String

    /// A refusal.
    package init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    /// The sentence.
    package var description: String { message }
}

extension Scope {
    /// Sees the rows of these organizations.
    package static func organizations(_ ids: some Sequence<OrganizationID>) -> Scope {
        Scope(setting: "organizations:{" + Set(ids).map(\.description).sorted().joined(separator: ",") + "}")
    }

    /// Sees the rows of one organization.
    package static func organization(_ id: OrganizationID) -> Scope { organizations(CollectionOfOne(id)) }

    /// Sees the rows of a partner's organizations.
    package static func partner(_ id: PartnerID) -> Scope { Scope(setting: "partner:\(id)") }

    /// Sees the rows of one site.
    package static func site(_ id: SiteID) -> Scope { Scope(setting: "site:\(id)") }
}

extension ID: PostgresEncodable, PostgresDecodable {
    /// A uuid.
    package static var postgresType: PostgresType { .uuid }
    /// An array of uuid.
    package static var postgresArrayType: PostgresType { .uuidArray }

    /// Appends the 16 bytes.
    package func encode(into bytes: inout PostgresBytes) {
        bytes.append(integer: value.high)
        bytes.append(integer: value.low)
    }

    /// The id of a uuid cell.
    package init(postgres cell: PostgresCell) throws {
        let (high, low) = try cell.uuid(for: Self.self)
        self.init(UniqueID(high: high, low: low))
    }
}

extension Instant: PostgresEncodable, PostgresDecodable {
    /// A timestamptz.
    package static var postgresType: PostgresType { .timestamptz }
    /// An array of timestamptz.
    package static var postgresArrayType: PostgresType { .timestamptzArray }

    /// Appends the microseconds.
    package func encode(into bytes: inout PostgresBytes) {
        PostgresTimestamp(microsecondsSince1970: microseconds).encode(into: &bytes)
    }

    /// The instant of a timestamptz cell.
    package init(postgres cell: PostgresCell) throws {
        self.init(microseconds: try PostgresTimestamp(postgres: cell).microsecondsSince1970)
    }
}

/// A closed set that stands as smallint in its columns.
package protocol SmallintCoded: PostgresEncodable, PostgresDecodable, RawRepresentable
where RawValue == Int16 {}

extension SmallintCoded {
    /// A smallint.
    package static var postgresType: PostgresType { .int2 }
    /// An array of smallint.
    package static var postgresArrayType: PostgresType { .int2Array }
    /// Appends the raw value.
    package func encode(into bytes: inout PostgresBytes) { rawValue.encode(into: &bytes) }

    /// The value of a smallint cell.
    package init(postgres cell: PostgresCell) throws {
        guard let value = Self(rawValue: try Int16(postgres: cell)) else {
            throw cell.malformed(Self.self, "is not one of its values")
        }
        self = value
    }
}

/// A closed set that stands as text in its columns.
package protocol TextCoded: PostgresDecodable, RawRepresentable where RawValue == String {}

extension TextCoded {
    /// The value of a text cell.
    package init(postgres cell: PostgresCell) throws {
        guard let value = Self(rawValue: try String(postgres: cell)) else {
            throw cell.malformed(Self.self, "is not one of its values")
        }
        self = value
    }
}

extension RunState: SmallintCoded {}
extension Outcome: SmallintCoded {}
extension JobState: SmallintCoded {}
extension Priority: SmallintCoded {}
extension Lane: SmallintCoded {}
extension ControlMode: SmallintCoded {}
extension TaskState: SmallintCoded {}
extension WebhookState: SmallintCoded {}
extension WebhookDeliveryState: SmallintCoded {}
