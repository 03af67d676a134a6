import Domain
import Testing
import Trust

@testable import Gateway

@Suite("Journal positions") struct JournalPositionsTests {
    private let device = DeviceID.new(at: .now())
    private let organization = OrganizationID.new(at: .now())

    @Test("The highest position waits until it, or a later one, is written")
    func highest() {
        let positions = JournalPositions()
        #expect(positions[device] == 0 && positions.pending.isEmpty)
        positions.note(7, of: device, organization)
        positions.note(5, of: device, organization)
        #expect(positions[device] == 7)
        #expect(positions.pending.map(\.position) == [7])
        positions.note(9, of: device, organization)
        positions.forget([device: 7])
        #expect(positions[device] == 9, "what came while the earlier one was written still waits")
        positions.forget([device: 9])
        #expect(positions[device] == 0 && positions.pending.isEmpty)
    }
}
