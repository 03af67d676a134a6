import Domain
import Ledger
import Testing
import Trust

@testable import Gateway

@Suite("Places in journals") struct JournalPlacesTests {
    private let device = DeviceID.new(at: .now())
    private let organization = OrganizationID.new(at: .now())

    private func place(_ copy: Int, _ position: Int) -> JournalPlace {
        JournalPlace(copy: copy, position: position)
    }

    @Test("The furthest place waits until it, or a later one, is written")
    func furthest() {
        let journals = JournalPlaces()
        #expect(journals[device] == nil && journals.pending.isEmpty)
        journals.note(place(0, 7), of: device, organization)
        journals.note(place(0, 5), of: device, organization)
        #expect(journals[device] == place(0, 7))
        #expect(journals.pending.map(\.place) == [place(0, 7)])
        journals.note(place(0, 9), of: device, organization)
        journals.forget([device: place(0, 7)])
        #expect(journals[device] == place(0, 9), "what came while the earlier one was written still waits")
        journals.forget([device: place(0, 9)])
        #expect(journals[device] == nil && journals.pending.isEmpty)
    }

    @Test("A place in a restored copy is further than any in the one before")
    func copies() {
        let journals = JournalPlaces()
        journals.note(place(0, 100), of: device, organization)
        journals.note(place(1, 50), of: device, organization)
        journals.note(place(0, 101), of: device, organization)
        #expect(journals[device] == place(1, 50))
        journals.forget([device: place(0, 100)])
        #expect(journals[device] == place(1, 50), "what was written of the copy before says nothing of it")
    }
}
