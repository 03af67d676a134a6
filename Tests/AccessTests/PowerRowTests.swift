import Domain
import Ledger
import Postgres
import TestSupport
import Testing
import Trust

@testable import Access

/// Whoever writes the database can end what a row grants. He cannot have it grant anything else, to anybody
/// else or for longer, nor bring back what has ended.
@Suite("Rows that grant power")
struct PowerRowTests {
    // MARK: Columns

    @Test("every column of these tables is known to grant, to take away or to say nothing of power")
    func columns() async throws {
        try await TestDatabase.with { database in
            for name in Set(PowerTable.all.map(\.name)) {
                let columns = try await database.owner.columns(of: name)
                for table in PowerTable.all where table.name == name {
                    #expect(Set(table.edits.map(\.column)) == columns, "of \(name)")
                }
            }
        }
    }

    @Test("no table beside those that are known to has a MAC of its own rows")
    func tables() async throws {
        try await TestDatabase.with { database in
            let sealed = try await database.owner.query(
                """
                SELECT c.relname::text FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
                WHERE a.attname = 'mac' AND c.relkind IN ('r', 'p')
                  AND c.relnamespace = 'public'::regnamespace
                """, scope: .platform
            ) { try $0.decode(String.self) }
            // Edges: EdgeJudgeTests and AlteredRowTests; the lists: AuditTests and AuthenticatorTests; the
            // others: ApprovalTests, OIDCRowTests and ErasureTrustTests.
            let elsewhere: Set = [
                "partners", "organizations", "sites", "devices", "revocations", "audit_entries",
                "audit_checkpoints", "approvals", "oidc_providers", "oidc_links", "erasures",
            ]
            #expect(Set(sealed) == elsewhere.union(PowerTable.all.map(\.name)))
        }
    }

    @Test(
        "an edit of a column as the database's owner ends what the row grants, or changes nothing of it",
        arguments: PowerTable.all.indices)
    func edits(index: Int) async throws {
        let table = PowerTable.all[index]
        try await PowerScene.with { scene in
            try await table.renew?(scene)
            let row = table.row(scene)
            try await scene.keep(table.sql)
            try await scene.asOwner("DELETE FROM \(fragment: table.sql) WHERE \(fragment: row)")
            let gone = try await table.effect(scene, .owner)
            try await scene.putBack(table.sql)
            let granted = try await table.effect(scene, .owner)
            #expect(gone != granted)
            for edit in table.edits {
                try await table.renew?(scene)
                try await scene.keep(table.sql)
                try await scene.asOwner(
                    """
                    UPDATE \(fragment: table.sql) SET \(fragment: edit.assignment(scene))
                    WHERE \(fragment: row)
                    """)
                let changed = try await scene.differs(table.sql)
                #expect(changed == 1, "\(edit.column) is edited")
                let effect = try await table.effect(scene, edit.bearer)
                switch edit.meaning {
                case .grants, .takesAway: #expect(effect == gone, "\(table.name).\(edit.column)")
                case .nothing: #expect(effect == granted, "\(table.name).\(edit.column)")
                }
                // It was the edit that ended it.
                if case .nothing = edit.meaning { continue }
                try await scene.putBack(table.sql)
                if table.renew != nil {
                    #expect(try await table.effect(scene, .owner) == granted, "before \(edit.column)")
                }
            }
            try await table.renew?(scene)
            #expect(try await table.effect(scene, .owner) == granted)
        }
    }

    // MARK: Rows under another id

    @Test("a row under another id grants nothing, to whomever that id belongs")
    func copies() async throws {
        try await PowerScene.with { scene in
            let (ann, bob) = (scene.ann, scene.bob)
            // Ann's row as Bob's.
            try await scene.keep("users")
            try await scene.asOwner(
                "DELETE FROM users WHERE id = \(bob.user)",
                "UPDATE users SET id = \(bob.user) WHERE id = \(ann.user)")
            #expect(try await scene.rights(bob.secret) == "unauthorized")
            try await scene.putBack("users")
            // The strong role as the weak one, which Bob has.
            _ = try await scene.roles.bind(
                bob.user, to: .made(scene.weak.id), on: .organization(scene.organization), by: nil)
            #expect(try await scene.rights(bob.secret).contains("audit:read"))
            try await scene.keep("roles")
            try await scene.asOwner(
                "DELETE FROM roles WHERE id = \(scene.weak.id)",
                "UPDATE roles SET id = \(scene.weak.id), name = 'weak' WHERE id = \(scene.strong.id)")
            let narrowed = try await scene.rights(bob.secret)
            #expect(narrowed.contains("jobs:read") && !narrowed.contains("webhooks:read"))
            #expect(!narrowed.contains("audit:read"))
            try await scene.putBack("roles")
            // Bob's password as Ann's.
            #expect(try await scene.signsIn(bob.user, bob.password) == "bob")
            try await scene.keep("user_credentials")
            try await scene.asOwner(
                "DELETE FROM user_credentials WHERE user_id = \(ann.user)",
                "UPDATE user_credentials SET user_id = \(ann.user) WHERE user_id = \(bob.user)")
            #expect(
                try await scene.signsIn(
                    ann.user, bob.password, bob.totp.code(at: scene.clock.now + .seconds(30)))
                    == "unauthorized")
            try await scene.putBack("user_credentials")
            #expect(try await scene.signsIn(ann.user, ann.password) == "ann")
        }
    }

    // MARK: Rows of before

    @Test("what a person, a role or a binding gave is not brought back by its row of before")
    func people() async throws {
        try await PowerScene.with { scene in
            let (ann, bob) = (scene.ann, scene.bob)
            let before = try await scene.rights(ann.secret)
            #expect(before.contains("webhooks:write"))
            // A role that was narrowed.
            try await scene.keep("roles")
            _ = try await scene.roles.editRole(
                scene.strong.id, name: nil, permissions: [.webhooksRead], version: nil, by: scene.admin)
            #expect(try await scene.rights(ann.secret).contains("webhooks:read"))
            try await scene.putBack("roles")
            let narrowed = try await scene.rights(ann.secret)
            #expect(!narrowed.contains("webhooks:") && narrowed.contains("jobs:read"))
            _ = try await scene.roles.editRole(
                scene.strong.id, name: nil, permissions: [.webhooksRead, .webhooksWrite], version: nil,
                by: scene.admin)
            #expect(try await scene.rights(ann.secret) == before)
            // A binding that was taken away, as it was and as another.
            try await scene.keep("role_bindings")
            let binding = try #require(
                await scene.database.ledger.bindings(of: ann.user, limit: 9).first {
                    $0.role == .made(scene.strong.id)
                })
            try await scene.roles.unbind(binding.id, by: scene.admin)
            try await scene.putBack("role_bindings")
            #expect(try await !scene.rights(ann.secret).contains("webhooks:"))
            try await scene.asOwner(
                "UPDATE role_bindings SET id = gen_random_uuid() WHERE id = \(binding.id)")
            #expect(try await !scene.rights(ann.secret).contains("webhooks:"))
            // A person who was disabled, by the row of before and by the state alone.
            try await scene.keep("users")
            _ = try await scene.roles.editUser(
                bob.user, name: nil, state: .disabled, version: nil, by: scene.admin)
            try await scene.asOwner("UPDATE users SET state = 1 WHERE id = \(bob.user)")
            #expect(try await scene.signsIn(bob.user, bob.password) == "unauthorized")
            try await scene.putBack("users")
            #expect(try await scene.signsIn(bob.user, bob.password) == "unauthorized")
            let made = try await scene.authenticator.createKey(
                name: "b", level: .organization(scene.organization), permissions: [.jobsRead],
                expiresIn: .seconds(86_400), by: nil, actsFor: bob.user)
            #expect(try await scene.rights(made.secret) == "unauthorized")
        }
    }

    @Test("a password, a code for recovery and a step of the second factor do not come back")
    func credentials() async throws {
        try await PowerScene.with { scene in
            let ann = scene.ann
            // A code is taken once, whatever the row says then of the last.
            let step = try await scene.lastStep(of: ann.user)
            let code = ann.totp.code(at: scene.clock.now + .seconds(30))
            #expect(try await scene.signsIn(ann.user, ann.password, code) == "ann")
            #expect(try await scene.lastStep(of: ann.user) > step)
            #expect(try await scene.signsIn(ann.user, ann.password, code) == "unauthorized")
            try await scene.keep("user_credentials")
            try await scene.asOwner(
                "UPDATE user_credentials SET totp_step = \(step) WHERE user_id = \(ann.user)")
            #expect(try await scene.signsIn(ann.user, ann.password, code) == "unauthorized")
            try await scene.putBack("user_credentials")
            #expect(try await scene.signsIn(ann.user, ann.password) == "ann")
            // The password of before.
            try await scene.keep("user_credentials")
            try await scene.signIn.changePassword(
                of: ann.user, from: ann.password, to: "another horse battery", keeping: ann.session)
            try await scene.putBack("user_credentials")
            #expect(try await scene.signsIn(ann.user, ann.password) == "unauthorized")
            #expect(try await scene.signsIn(ann.user, "another horse battery") == "unauthorized")
        }
    }

    @Test("a session that ended, and a secret that a step-up replaced, do not come back")
    func sessions() async throws {
        try await PowerScene.with { scene in
            let ann = scene.ann
            try await scene.keep("sessions")
            scene.clock.advance(.seconds(30))
            let fresh = try await scene.signIn.stepUp(
                ann.session, of: ann.user, code: ann.totp.code(at: scene.clock.now))
            let rights = try await scene.rights(fresh.secret)
            #expect(rights.contains("webhooks:write"))
            try await scene.putBack("sessions")
            #expect(try await scene.rights(ann.secret) == "unauthorized")
            // Nor does one that ended, under its own id or another.
            let session = try await scene.signIn.begin(
                ann.user, SignIn.Origin(agent: "x", address: nil, isCommandLine: false), steppedUpAt: nil,
                at: scene.clock.now)
            try await scene.keep("sessions")
            try await scene.signIn.end(session.row.id, of: ann.user)
            try await scene.putBack("sessions")
            #expect(try await scene.rights(session.secret) == "unauthorized")
            try await scene.asOwner(
                "UPDATE sessions SET id = gen_random_uuid() WHERE id = \(session.row.id)")
            #expect(try await scene.rights(session.secret) == "unauthorized")
            // Whoever notes that it is used prolongs it to its end and not beyond.
            let last = try await scene.signIn.begin(
                ann.user, SignIn.Origin(agent: "x", address: nil, isCommandLine: false), steppedUpAt: nil,
                at: scene.clock.now)
            try await scene.asOwner(
                "UPDATE sessions SET last_seen_at = 'infinity'::timestamptz - '1 day'::interval")
            scene.clock.advance(SignIn.browser.lifetime)
            #expect(try await scene.rights(last.secret) == "unauthorized")
        }
    }

    @Test("a link that was used, or whose place another took, works no more, whatever its row says")
    func links() async throws {
        try await PowerScene.with { scene in
            let bob = scene.bob
            let first = try await scene.signIn.resetPassword(of: bob.user, by: scene.admin).secret
            let second = try await scene.signIn.resetPassword(of: bob.user, by: scene.admin).secret
            try await scene.asOwner("UPDATE sign_in_links SET used_at = NULL")
            #expect(try await scene.accepts(first) == "invalid")
            try await scene.keep("sign_in_links")
            #expect(try await scene.accepts(second) == "bob")
            try await scene.putBack("sign_in_links")
            #expect(try await scene.accepts(second) == "invalid")
            try await scene.asOwner("UPDATE sign_in_links SET id = gen_random_uuid()")
            #expect(try await scene.accepts(second) == "invalid")
            // A device's code, as it was before somebody approved it and after.
            try await scene.asOwner("DELETE FROM sign_in_links", "DELETE FROM sign_in_failures")
            let code = try await scene.signIn.beginDevice(agent: "test", address: nil)
            try await scene.keep("sign_in_links")
            try await scene.signIn.approveDevice(code.userCode, by: bob.user)
            #expect(try await scene.finishes(code.secret) == "bob")
            try await scene.putBack("sign_in_links")
            await #expect(throws: AccessError.self) {
                try await scene.signIn.approveDevice(code.userCode, by: bob.user)
            }
            #expect(try await scene.finishes(code.secret) == "invalid")
        }
    }

    @Test("a key that was revoked, and a text that a rotation replaced, do not come back")
    func keys() async throws {
        try await PowerScene.with { scene in
            let id = scene.key.row.id
            #expect(try await scene.rights(scene.key.secret).contains("jobs:read"))
            try await scene.keep("api_keys")
            let rotated = try await scene.authenticator.rotateKey(
                id, version: nil, overlap: .seconds(0), by: scene.admin)
            #expect(try await scene.rights(rotated.secret).contains("jobs:read"))
            try await scene.putBack("api_keys")
            #expect(try await scene.rights(scene.key.secret) == "unauthorized")
            let other = try await scene.authenticator.createKey(
                name: "o", level: .organization(scene.organization), permissions: [.jobsRead],
                expiresIn: .seconds(86_400), by: nil)
            try await scene.authenticator.revokeKey(other.row.id, version: nil, level: .platform)
            try await scene.asOwner("UPDATE api_keys SET revoked_at = NULL")
            #expect(try await scene.rights(other.secret) == "unauthorized")
            try await scene.asOwner(
                "UPDATE api_keys SET id = gen_random_uuid() WHERE id = \(other.row.id)")
            #expect(try await scene.rights(other.secret) == "unauthorized")
        }
    }
}
