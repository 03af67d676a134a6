import Domain
import Testing

@Suite("Tar archives")
struct TarFileTests {
    @Test("a header says name and length, and none that was changed holds")
    func header() throws {
        let block = TarFile.header(name: "devices/000001.jsonl", bytes: 1_234, modified: 1_700_000_000)
        #expect(block.count == TarFile.blockBytes)
        // POSIX.1-1988: the magic, the mode, the length in octal, the type of a file.
        #expect(Array(block[257..<265]) == Array("ustar\u{0}00".utf8))
        #expect(Array(block[100..<107]) == Array("0000600".utf8))
        #expect(Array(block[124..<135]) == Array("00000002322".utf8) && block[156] == UInt8(ascii: "0"))
        let found = try #require(TarFile.read(block))
        #expect(found.name == "devices/000001.jsonl" && found.bytes == 1_234)
        for offset in 0..<block.count where !(148..<156).contains(offset) {
            var changed = block
            changed[offset] ^= 1
            #expect(TarFile.read(changed) == nil, "\(offset)")
        }
        #expect(TarFile.read(Array(TarFile.end.prefix(512))) == nil)
        #expect(TarFile.read([]) == nil)
    }

    @Test("content is filled up to whole blocks")
    func padding() {
        #expect(TarFile.padding(after: 0).isEmpty && TarFile.padding(after: 512).isEmpty)
        #expect(TarFile.padding(after: 1).count == 511 && TarFile.padding(after: 1_234).count == 302)
        let largest = TarFile.header(name: "x", bytes: TarFile.bytesMax, modified: -1)
        #expect(TarFile.read(largest)?.bytes == TarFile.bytesMax)
    }
}
