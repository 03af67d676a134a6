/// Headers of a tar archive (POSIX.1-1988, ustar): a block of 512 bytes before each file, whose content is
/// filled up to whole blocks; two empty blocks end the archive.
package enum TarFile {
    /// The length of a block in bytes.
    package static let blockBytes = 512
    /// The largest file that a header can say.
    package static let bytesMax = (1 << 33) - 1
    /// What ends an archive.
    package static let end = [UInt8](repeating: 0, count: 2 * blockBytes)

    /// The header of a file that its owner alone may read. The name has 1 to 100 bytes.
    package static func header(name: String, bytes: Int, modified: Int64) -> [UInt8] {
        precondition((1...100).contains(name.utf8.count) && (0...bytesMax).contains(bytes))
        var block = [UInt8](repeating: 0, count: blockBytes)
        func put(_ text: String, at offset: Int) {
            for (index, byte) in text.utf8.enumerated() { block[offset + index] = byte }
        }
        put(name, at: 0)
        put("0000600", at: 100)
        put(octal(0, 7), at: 108)
        put(octal(0, 7), at: 116)
        put(octal(bytes, 11), at: 124)
        put(octal(Int(clamping: max(0, modified)), 11), at: 136)
        put("        ", at: 148)
        put("0", at: 156)
        put("ustar\u{0}00", at: 257)
        let sum = block.reduce(0) { $0 + Int($1) }
        put(octal(sum, 6) + "\u{0} ", at: 148)
        return block
    }

    /// What fills a file's last block up.
    package static func padding(after bytes: Int) -> [UInt8] {
        [UInt8](repeating: 0, count: (blockBytes - bytes % blockBytes) % blockBytes)
    }

    /// The name and the length that a header says; `nil` if it is not one that `header` makes.
    package static func read(_ block: [UInt8]) -> (name: String, bytes: Int)? {
        guard block.count == blockBytes else { return nil }
        func text(_ range: Range<Int>) -> String {
            String(decoding: block[range].prefix { $0 != 0 }, as: UTF8.self)
        }
        guard let bytes = Int(text(124..<136), radix: 8), let modified = Int64(text(136..<148), radix: 8),
            (0...bytesMax).contains(bytes), modified >= 0, case let name = text(0..<100),
            (1...100).contains(name.utf8.count),
            block == header(name: name, bytes: bytes, modified: modified)
        else { return nil }
        return (name, bytes)
    }

    private static func octal(_ value: Int, _ digits: Int) -> String {
        let text = String(value, radix: 8)
        return String(repeating: "0", count: max(0, digits - text.utf8.count)) + text
    }
}
