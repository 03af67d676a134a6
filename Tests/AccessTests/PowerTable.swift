import Domain
import Ledger
import Postgres
import Trust

@testable import Access

/// A table whose rows grant power, with what is known of each of its columns.
struct PowerTable: Sendable {
    /// What it says of a column.
    enum Meaning: Sendable {
        /// The row grants nothing after an edit.
        case grants
        /// An edit can end what the row grants, and no edit brings back or prolongs what has ended: the
        /// reason.
        case takesAway(String)
        /// The row grants after an edit what it granted before: the reason.
        case nothing(String)
    }

    /// An edit of one column to another value that the table allows, with those that a check ties to it.
    struct Edit: Sendable {
        let column: String
        let meaning: Meaning
        /// With what somebody comes after it.
        var bearer = PowerScene.Bearer.owner
        /// What stands after `SET`.
        let assignment: @Sendable (PowerScene) -> SQL
    }

    let name: String
    let sql: SQL
    /// Which row is edited.
    let row: @Sendable (PowerScene) -> SQL
    /// Makes the row anew before each edit, where using it uses it up.
    var renew: (@Sendable (PowerScene) async throws -> Void)?
    /// What the row comes to.
    let effect: @Sendable (PowerScene, PowerScene.Bearer) async throws -> [String]
    let edits: [Edit]
}

extension PowerTable {
    private static func grants(
        _ column: String, _ assignment: SQL, by bearer: PowerScene.Bearer = .owner
    ) -> Edit {
        Edit(column: column, meaning: .grants, bearer: bearer) { _ in assignment }
    }

    private static func grants(
        _ column: String, by bearer: PowerScene.Bearer = .owner,
        _ assignment: @escaping @Sendable (PowerScene) -> SQL
    ) -> Edit {
        Edit(column: column, meaning: .grants, bearer: bearer, assignment: assignment)
    }

    private static func nothing(_ column: String, _ reason: String, _ assignment: SQL) -> Edit {
        Edit(column: column, meaning: .nothing(reason)) { _ in assignment }
    }

    private static func takesAway(_ column: String, _ reason: String, _ assignment: SQL) -> Edit {
        Edit(column: column, meaning: .takesAway(reason)) { _ in assignment }
    }

    private static let ids: [Edit] = [grants("id", "id = gen_random_uuid()")]
    private static let seals: [Edit] = [
        grants("mac_key", "mac_key = 'k2'"), grants("mac", "mac = decode(repeat('00', 32), 'hex')"),
        grants("mac", "mac = ''"),
    ]
    private static let term: [Edit] = [
        grants("expires_at", "expires_at = expires_at + interval '1 year'")
    ]
    private static let version: [Edit] = [grants("version", "version = version + 1")]
    private static let created: [Edit] = [
        nothing("created_at", "when it was made is shown to people", "created_at = '2020-01-01'")
    ]
    private static let maker: [Edit] = [
        nothing("created_by", "who made it is shown to people", "created_by = gen_random_uuid()")
    ]
    private static let updated: [Edit] = [
        nothing("updated_at", "when it was edited is shown to people", "updated_at = '2020-01-01'")
    ]

    /// What Ann and Bob may do.
    private static let rights: @Sendable (PowerScene, PowerScene.Bearer) async throws -> [String] = {
        scene, _ in
        [try await scene.rights(scene.ann.secret), try await scene.rights(scene.bob.secret)]
    }

    /// Every table of people, roles, keys and sign-ins.
    static let all = [
        users, roles, bindings, credentials, sessions, resetLinks, deviceCodes, keys, guards,
    ]

    private static let users = PowerTable(
        name: "users", sql: "users", row: { "id = \($0.ann.user)" },
        effect: { scene, _ in
            [
                try await scene.rights(scene.ann.secret), try await scene.rights(scene.bob.secret),
                try await scene.signsIn(scene.ann.user, scene.ann.password),
            ]
        },
        edits: ids + term + version + seals + created + maker + updated + [
            grants(
                "partner_id",
                """
                organization_id = NULL, partner_id = (SELECT partner_id FROM organizations o
                                                      WHERE o.id = users.organization_id)
                """), grants("organization_id", "organization_id = NULL"),
            grants("email", "email = 'eve@example.com'"), grants("state", "state = 2"),
            nothing("name", "who it is, for people", "name = 'somebody else'"),
        ])

    private static let roles = PowerTable(
        name: "roles", sql: "roles", row: { "id = \($0.strong.id)" }, effect: rights,
        edits: ids + term + version + seals + created + maker + updated + [
            grants(
                "partner_id",
                """
                organization_id = NULL, partner_id = (SELECT partner_id FROM organizations o
                                                      WHERE o.id = roles.organization_id)
                """), grants("organization_id", "organization_id = NULL"),
            grants("name", "name = 'stronger'"),
            grants("permissions", "permissions = permissions || ARRAY['jobs:run']"),
        ])

    private static let bindings = PowerTable(
        name: "role_bindings", sql: "role_bindings", row: { "role_id = \($0.strong.id)" }, effect: rights,
        edits: ids + term + seals + created + [
            grants("user_id") { "user_id = \($0.bob.user)" },
            grants(
                "partner_id",
                """
                organization_id = NULL, partner_id = (SELECT partner_id FROM organizations o
                                                      WHERE o.id = role_bindings.organization_id)
                """), grants("organization_id", "organization_id = NULL"),
            grants("site_id", "organization_id = NULL, site_id = gen_random_uuid()"),
            grants("builtin", "role_id = NULL, builtin = 'organizationAdmin'"),
            grants("role_id") { "role_id = \($0.weak.id)" },
            // Whoever took it from the person would be another.
            grants("created_by", "created_by = gen_random_uuid()"),
        ])

    private static let credentials = PowerTable(
        name: "user_credentials", sql: "user_credentials", row: { "user_id = \($0.ann.user)" },
        effect: { scene, bearer in
            let password = bearer == .thief ? PowerScene.thiefPassword : scene.ann.password
            return [try await scene.signsIn(scene.ann.user, password)]
        },
        edits: term + version + seals + updated + [
            grants("user_id", "user_id = gen_random_uuid()"),
            grants("password_hash", by: .thief) { _ in "password_hash = \(PowerScene.thiefHash)" },
            grants("sealed", "sealed = NULL"), grants("confirmed", "confirmed = false"),
            grants("totp_step", "totp_step = 0"),
            grants("recovery_hashes", "recovery_hashes = recovery_hashes || sha256('x')"),
        ])

    private static let sessions = PowerTable(
        name: "sessions", sql: "sessions", row: { "id = \($0.ann.session)" },
        effect: { scene, bearer in
            let text = bearer == .thief ? PowerScene.thiefSession.text : scene.ann.secret
            return [try await scene.rights(text), try await scene.rights(scene.bob.secret)]
        },
        edits: ids + term + version + seals + created + [
            grants("user_id") { "user_id = \($0.bob.user)" },
            grants("secret_hash", by: .thief) { _ in
                "secret_hash = \(PostgresData(PowerScene.thiefSession.hash))"
            }, grants("idle_seconds", "idle_seconds = 2000000000"),
            grants("stepped_up_at", "stepped_up_at = now()"),
            takesAway(
                "last_seen_at",
                "a session that was not used ends; one that seems to be used ends at expires_at all the same",
                "last_seen_at = '2020-01-01'"),
            nothing("agent", "what it was begun with is shown to people", "agent = 'another'"),
            nothing("address", "whence it was begun is shown to people", "address = '198.51.100.7'"),
        ])

    private static let linkEdits: [Edit] =
        ids + term + version + seals + created + maker + [
            grants("user_code", "user_code = 'BBBB-BBBB'"),
            takesAway(
                "used_at", "what was used stands in the list of revocations too", "used_at = now()"),
            nothing("agent", "what asks for a code is shown to people", "agent = 'another'"),
        ]

    private static let resetLinks = PowerTable(
        name: "sign_in_links", sql: "sign_in_links", row: { _ in "kind = 2 AND used_at IS NULL" },
        renew: { scene in
            scene.link.set(try await scene.signIn.resetPassword(of: scene.bob.user, by: scene.admin).secret)
        },
        effect: { scene, bearer in
            switch bearer {
            case .owner: [try await scene.accepts(scene.link.value)]
            case .thief: [try await scene.accepts(PowerScene.thiefReset.text)]
            case .otherKind:
                [
                    try await scene.accepts(
                        scene.link.value.replacing(
                            OpaqueSecret.Kind.resetLink.rawValue, with: OpaqueSecret.Kind.invitation.rawValue)
                    )
                ]
            }
        },
        edits: linkEdits + [
            grants("kind", "kind = 1", by: .otherKind), grants("user_id") { "user_id = \($0.ann.user)" },
            grants("secret_hash", by: .thief) { _ in
                "secret_hash = \(PostgresData(PowerScene.thiefReset.hash))"
            },
        ])

    private static let deviceCodes = PowerTable(
        name: "sign_in_links", sql: "sign_in_links", row: { _ in "kind = 3 AND used_at IS NULL" },
        renew: { scene in
            try await scene.database.owner.execute("DELETE FROM sign_in_failures", scope: .platform)
            let code = try await scene.signIn.beginDevice(agent: "test", address: nil)
            try await scene.signIn.approveDevice(code.userCode, by: scene.ann.user)
            scene.link.set(code.secret)
        },
        effect: { scene, bearer in
            switch bearer {
            case .owner: [try await scene.finishes(scene.link.value)]
            case .thief: [try await scene.finishes(PowerScene.thiefDevice.text)]
            case .otherKind:
                [
                    try await scene.accepts(
                        scene.link.value.replacing(
                            OpaqueSecret.Kind.deviceCode.rawValue, with: OpaqueSecret.Kind.resetLink.rawValue)
                    )
                ]
            }
        },
        edits: linkEdits + [
            grants("kind", "kind = 2", by: .otherKind), grants("user_id") { "user_id = \($0.bob.user)" },
            grants("secret_hash", by: .thief) { _ in
                "secret_hash = \(PostgresData(PowerScene.thiefDevice.hash))"
            },
        ])

    // What is taken away here is missed: nothing is let through by it.
    private static let guards = PowerTable(
        name: "guards", sql: "guards", row: { "partner_id = \($0.partner)" },
        effect: { scene, _ in [try await scene.reachOfActs()] },
        edits: term + version + seals + updated + [
            grants("partner_id", "partner_id = gen_random_uuid()"),
            grants("confirm_above", "confirm_above = 1000"), grants("approve_above", "approve_above = NULL"),
            grants("step_up", "step_up = '{}'"), grants("step_up_seconds", "step_up_seconds = 80000"),
            nothing("updated_by", "who edited it is shown to people", "updated_by = gen_random_uuid()"),
        ])

    private static let keys = PowerTable(
        name: "api_keys", sql: "api_keys", row: { "id = \($0.key.row.id)" },
        effect: { scene, bearer in
            [try await scene.rights(bearer == .thief ? PowerScene.thiefKey.text : scene.key.secret)]
        },
        edits: ids + term + version + seals + created + [
            grants(
                "partner_id",
                """
                organization_id = NULL, partner_id = (SELECT partner_id FROM organizations o
                                                      WHERE o.id = api_keys.organization_id)
                """), grants("organization_id", "organization_id = NULL"),
            grants("site_id", "organization_id = NULL, site_id = gen_random_uuid()"),
            grants("name", "name = 'other'"),
            grants("key_hash", by: .thief) { _ in "key_hash = \(PostgresData(PowerScene.thiefKey.hash))" },
            grants("previous_hash", by: .thief) { _ in
                """
                previous_hash = \(PostgresData(PowerScene.thiefKey.hash)),
                previous_expires_at = expires_at
                """
            }, grants("previous_expires_at", "previous_expires_at = expires_at"),
            grants("permissions", "permissions = permissions || ARRAY['jobs:run']"),
            grants("created_by") { "created_by = \($0.ann.user)" },
            grants("acts_for_maker", "acts_for_maker = true"),
            takesAway(
                "revoked_at", "what was revoked stands in the list of revocations too", "revoked_at = now()"),
            nothing("prefix", "which key it is, for people", "prefix = 'crmm_other'"),
            nothing("last_used_at", "when it was used is shown to people", "last_used_at = '2020-01-01'"),
        ])
}
