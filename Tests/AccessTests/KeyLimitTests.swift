import Domain
import Ledger
import Postgres
import Testing
import Trust

@testable import Access

extension TestDatabase {
    func makeOrganization() async throws -> OrganizationID {
        let partner = try await tenants.createPartner(name: "p", level: .platform)
        let organization = try await tenants.createOrganization(
            partner: ID(partner.id), name: "o", level: .platform)
        return ID(organization.id)
    }

    func makeSite(of organization: OrganizationID) async throws -> SiteID {
        ID(try await tenants.createSite(organization: organization, name: "s", level: .platform).id)
    }
}

@Suite("Keys never have more than their maker")
struct KeyLimitTests {
    private func principal(
        _ level: Level, _ permissions: Set<Permission>, expiresIn: Duration = .seconds(3_600)
    ) -> Principal {
        let id = PrincipalID.new(at: Instant.now())
        let expiresAt = Instant.now() + expiresIn
        return Principal(
            kind: .key, id: id, maker: id,
            reach: Dictionary(uniqueKeysWithValues: permissions.map { ($0, level) }), expiresAt: expiresAt,
            lifetimeOfMade: expiresAt)
    }

    @Test("no permission beyond the maker's, and the refusal names it")
    func permissions() async throws {
        try await TestDatabase.with { database in
            let maker = principal(.platform, [.apiKeysWrite, .jobsRead])
            let refused = try await refusal {
                _ = try await database.authenticator().createKey(
                    name: "k", level: .platform, permissions: [.jobsRead, .jobsRun], expiresIn: .seconds(60),
                    by: maker)
            }
            #expect(refused.code == .forbidden && refused.message.contains("jobs:run"))
        }
    }

    @Test("no later expiry than the maker's")
    func expiry() async throws {
        try await TestDatabase.with { database in
            let maker = principal(.platform, [.apiKeysWrite], expiresIn: .seconds(100))
            let (row, _) = try await database.authenticator().createKey(
                name: "k", level: .platform, permissions: [], expiresIn: .seconds(86_400), by: maker)
            #expect(row.expiresAt == maker.expiresAt)
        }
    }

    @Test("no level outside the maker's; what it does not see does not exist")
    func levels() async throws {
        try await TestDatabase.with { database in
            let (own, other) = (try await database.makeOrganization(), try await database.makeOrganization())
            let (ownSite, otherSite) = (
                try await database.makeSite(of: own), try await database.makeSite(of: other)
            )
            let maker = principal(.organization(own), [.apiKeysWrite])
            let siteMaker = principal(.site(ownSite), [.apiKeysWrite])
            func code(_ level: Level, _ maker: Principal) async throws -> AccessError.Code? {
                do {
                    _ = try await database.authenticator().createKey(
                        name: "k", level: level, permissions: [], expiresIn: .seconds(60), by: maker)
                    return nil
                } catch let error as AccessError {
                    return error.code
                }
            }
            #expect(try await code(.organization(own), maker) == nil)
            #expect(try await code(.site(ownSite), maker) == nil)
            #expect(try await code(.site(ownSite), siteMaker) == nil)
            #expect(try await code(.platform, maker) == .forbidden)
            #expect(try await code(.organization(other), maker) == .notFound)
            #expect(try await code(.site(otherSite), maker) == .notFound)
            #expect(try await code(.partner(PartnerID(.zero)), maker) == .notFound)
            #expect(try await code(.organization(own), siteMaker) == .notFound)
            #expect(try await code(.site(otherSite), siteMaker) == .notFound)
        }
    }

    @Test("an unknown permission is refused with the list of those that there are")
    func unknownPermission() throws {
        let refused = #expect(throws: AccessError.self) {
            try Permission.set(["jobs:run", "jobs:everything"])
        }
        #expect(refused?.field == "permissions[1]")
        for permission in Permission.allCases {
            #expect(refused?.message.contains(permission.rawValue) == true)
        }
        #expect(try Permission.set(["jobs:run", "jobs:run"]) == [.jobsRun])
    }
}
