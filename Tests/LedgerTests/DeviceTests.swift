import Domain
import Postgres
import TestSupport
import Testing

@testable import Ledger

/// What is noted of devices.
@Suite(.serialized, .world) struct DeviceTests {
    @Test("Places in journals only rise, across tenants, and a row that somebody writes is not waited for")
    func journals() async throws {
        let world = try World.here()
        let tenants = [try await world.tenant(devices: 2), try await world.tenant()]
        let devices = tenants.flatMap { tenant in tenant.all.map { (tenant.organization, $0) } }
        func note(_ position: Int, copy: Int = 0) async throws -> [DeviceID: JournalPlace] {
            try await world.gateway.note(
                journals: devices.map {
                    (
                        organization: $0.0, device: $0.1,
                        place: JournalPlace(copy: copy, position: position)
                    )
                })
        }
        func kept() async throws -> [Int] {
            try await world.owner.query(
                "SELECT journal_position FROM devices WHERE id = ANY(\(devices.map(\.1))) ORDER BY id",
                scope: .none
            ) { try $0.decode(Int.self) }
        }
        let seven = JournalPlace(copy: 0, position: 7)
        #expect(try await note(7) == Dictionary(devices.map { ($0.1, seven) }) { $1 })
        #expect(try await note(5).count == 3)
        #expect(try await kept() == [7, 7, 7])
        let written = try await world.owner.transaction(scope: .none) { transaction in
            try await transaction.execute(
                "UPDATE devices SET last_seen_at = now() WHERE id = \(devices[0].1)")
            return try await note(9)
        }
        #expect(Set(written.keys) == Set(devices.dropFirst().map(\.1)))
        #expect(try await kept().sorted() == [7, 9, 9])
        // A copy begins where it was made, once; what is still said of the journal before counts for nothing.
        for position in [3, 2] {
            for (organization, device) in devices {
                try await world.gateway.restored(
                    device, organization: organization, place: JournalPlace(copy: 1, position: position))
            }
        }
        #expect(try await note(8).count == 3)
        #expect(try await kept() == [3, 3, 3])
        #expect(try await note(4, copy: 1).count == 3)
        #expect(try await kept() == [4, 4, 4])
    }

    @Test("A device that leaves an organization ends its runs there in the same transaction, and no others")
    func leaves() async throws {
        let world = try World.here()
        let tenant = try await world.tenant(devices: 2)
        let target = try await world.tenant()
        let (device, stays) = (tenant.all[0], tenant.all[1])
        let (_, runs) = try await world.submit(tenant, [device, stays])
        let (_, second) = try await world.submit(tenant, [device])
        let sent = try await world.send(runs.filter { $0.device == device })
        let site = try #require(try await world.api.device(target.all[0], scope: .platform)).site
        let place = try #require(try await world.api.site(site, scope: .platform))
        let before = try #require(try await world.api.assigned([device], scope: .platform).first)
        func move() async throws -> (moved: Set<DeviceID>, ended: [SettledRun], sent: [CancelledRun]) {
            try await world.api.reassign(
                [Reassigned(before: before, assignment: [7], mac: RowMAC(keyID: "k", code: [1]))], to: place)
        }
        let first = try await move()
        #expect(first.moved == [device])
        #expect(first.ended.map(\.run) == second.map(\.run))
        #expect(first.sent.map(\.run) == sent.map(\.run))
        #expect(try await world.state(second[0].run) == .cancelled)
        #expect(try await world.state(sent[0].run) == .dispatched)
        #expect(try await world.state(runs.first { $0.device == stays }!.run) == .queued)
        // Of what it was before nothing is left to move.
        let again = try await move()
        #expect(again.moved.isEmpty && again.ended.isEmpty && again.sent.isEmpty)
        #expect(try await world.api.device(device, scope: target.scope)?.site == site)
    }
}
