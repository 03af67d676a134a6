import Domain
import Postgres
import TestSupport
import Testing

@testable import Ledger

/// What is noted of devices.
@Suite(.serialized, .world) struct DeviceTests {
    @Test("Journal positions only rise, across tenants, and a row that somebody writes is not waited for")
    func positions() async throws {
        let world = try World.here()
        let tenants = [try await world.tenant(devices: 2), try await world.tenant()]
        let devices = tenants.flatMap { tenant in tenant.all.map { (tenant.organization, $0) } }
        func note(_ position: Int) async throws -> [DeviceID: Int] {
            try await world.gateway.note(
                positions: devices.map { (organization: $0.0, device: $0.1, position: position) })
        }
        func kept() async throws -> [Int] {
            try await world.owner.query(
                "SELECT journal_position FROM devices WHERE id = ANY(\(devices.map(\.1))) ORDER BY id",
                scope: .none
            ) { try $0.decode(Int.self) }
        }
        #expect(try await note(7) == Dictionary(devices.map { ($0.1, 7) }) { $1 })
        #expect(try await note(5).count == 3)
        #expect(try await kept() == [7, 7, 7])
        let written = try await world.owner.transaction(scope: .none) { transaction in
            try await transaction.execute(
                "UPDATE devices SET last_seen_at = now() WHERE id = \(devices[0].1)")
            return try await note(9)
        }
        #expect(Set(written.keys) == Set(devices.dropFirst().map(\.1)))
        #expect(try await kept().sorted() == [7, 9, 9])
    }
}
