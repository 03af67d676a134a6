import Foundation

/// The inputs with which the fuzzers begin, of one parser each.
struct FuzzCorpus {
    private static let place = URL(filePath: #filePath).deletingLastPathComponent()
        .appending(path: "../Fuzz/Corpus").standardizedFileURL

    /// The inputs by the names of their files.
    let inputs: [String: [UInt8]]

    init(_ parser: String) throws {
        let folder = Self.place.appending(path: parser)
        var inputs: [String: [UInt8]] = [:]
        for name in try FileManager.default.contentsOfDirectory(atPath: folder.path) {
            inputs[name] = Array(try Data(contentsOf: folder.appending(path: name)))
        }
        self.inputs = inputs
    }

    /// The inputs in the order of their names.
    var sorted: [(name: String, bytes: [UInt8])] {
        inputs.sorted { $0.key < $1.key }.map { (name: $0.key, bytes: $0.value) }
    }
}

/// Changes inputs at random, the same way for the same seed.
struct Mutator {
    private var state: UInt64

    /// Pieces that readers stumble over.
    private static let pieces: [[UInt8]] =
        [
            "{", "}", "[", "]", ",", ":", "\"", "\\", "\\u0000", "\\ud800", "null", "true", "-", "1e9999",
            "0.5",
            "-9223372036854775808", "18446744073709551616", "%", "%00", "&", "=", "+", ";", ".", "/",
            "\u{E9}",
            "018f0000-0000-7000-8000-000000000002", "9999-12-31T23:59:60Z", "*",
        ].map { Array($0.utf8) } + [[0], [0xFF], [0xC0, 0xAF], [0xED, 0xA0, 0x80]]

    init(seed: UInt64) { state = seed }

    /// The next number below a bound (SplitMix64).
    mutating func next(_ bound: Int) -> Int {
        state &+= 0x9E37_79B9_7F4A_7C15
        var word = state
        word = (word ^ (word >> 30)) &* 0xBF58_476D_1CE4_E5B9
        word = (word ^ (word >> 27)) &* 0x94D0_49BB_1331_11EB
        return Int((word ^ (word >> 31)) % UInt64(bound))
    }

    /// An input with one to four changes, some of them pieces of another.
    mutating func mutated(_ input: [UInt8], with other: [UInt8]) -> [UInt8] {
        var bytes = input
        for _ in 0...next(4) {
            let at = next(bytes.count + 1)
            let end = min(bytes.count, at + next(9))
            switch next(5) {
            case 0: bytes.replaceSubrange(at..<end, with: [])
            case 1: bytes.insert(contentsOf: Self.pieces[next(Self.pieces.count)], at: at)
            case 2: bytes.replaceSubrange(at..<end, with: Self.pieces[next(Self.pieces.count)])
            case 3: if at < bytes.count { bytes[at] ^= 1 << UInt8(next(8)) }
            default:
                let from = next(other.count + 1)
                bytes.insert(contentsOf: other[from..<min(other.count, from + next(40))], at: at)
            }
        }
        return bytes
    }
}
