import Domain
import TestSupport
import Testing

@testable import Engine

@Suite struct LetterTests {
    private static func items(_ count: Int) -> [InboxLetter.Item] {
        (0..<count).map { index in
            InboxLetter.Item(
                organization: fresh(), job: fresh(), run: fresh(), device: fresh(),
                attempt: [1, 255, 65_536, 0xFFFF_FFFF][index % 4],
                token: fresh())
        }
    }

    @Test("A letter is its bytes and back", arguments: [0, 1, 5, 128])
    func roundTrip(count: Int) {
        let items = Self.items(count)
        for letter in [InboxLetter.dispatch(items), .cancel(items)] {
            #expect(letter.encoded.count == 1 + 84 * count)
            #expect(InboxLetter(letter.encoded) == letter)
        }
        #expect(InboxLetter.dispatch(items) != .cancel(items))
        let ended = InboxLetter.end(items.map(\.device))
        #expect(ended.encoded.count == 1 + 16 * count && InboxLetter(ended.encoded) == ended)
    }

    @Test("Bytes of any other length, and any other kind, are no letter")
    func garbage() {
        let bytes = InboxLetter.dispatch(Self.items(2)).encoded
        for length in 0..<bytes.count where length != 1 && length != 85 {
            #expect(InboxLetter(Array(bytes.prefix(length))) == nil)
        }
        for kind in UInt8.min ... .max where kind != 1 && kind != 2 {
            #expect(InboxLetter([kind] + bytes.dropFirst()) == nil)
        }
        #expect(InboxLetter([]) == nil)
    }

    @Test("Random bytes are read or refused, and what is read is written the same")
    func random() {
        var read = 0
        for round in 0..<20_000 {
            let count = round.isMultiple(of: 2) ? 1 + 84 * Int.random(in: 0...3) : Int.random(in: 0...300)
            var bytes = (0..<count).map { _ in UInt8.random(in: 0...255) }
            if !bytes.isEmpty { bytes[0] = UInt8.random(in: 0...3) }
            guard let letter = InboxLetter(bytes) else { continue }
            read += 1
            #expect(letter.encoded == bytes)
        }
        #expect(read > 1_000)
    }
}
