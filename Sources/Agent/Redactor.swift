import Process
import Trust

/// Puts asterisks in the place of secrets in a run's outputs, as many as a secret has bytes, wherever pieces
/// are cut: offsets and counts stay what they were.
///
/// What is looked for is each secret and, of one of several lines, each line of at least eight bytes: scripts
/// print those one by one. An encoding of a secret (base64, JSON's escapes) is another text and is not found.
/// What may be the beginning of a secret is held back until the next piece or the end shows what it is; a
/// beginning of at least eight bytes that the output ends in is masked too.
struct Redactor {
    /// No secret is shorter, so that a secret begins with a window of so many bytes.
    private static let windowBytes = 8
    private static let mask = UInt8(ascii: "*")
    private static let buckets = 1 << 16

    /// What is kept of one output between two pieces.
    private struct Held {
        var bytes: [UInt8] = []
        /// How many of them belong to a secret that was found.
        var masked = 0
    }

    private let patterns: [SecretBytes]
    /// The patterns by the bucket of their first bytes.
    private let byBucket: [Int: [Int]]
    /// Which buckets have any: looked at for every byte.
    private let isTaken: [Bool]
    private let factor = UInt64.random(in: 0 ... .max) | 1
    private var held: [OutputStream: Held] = [:]

    /// A redactor of these secrets; without any it changes nothing.
    init(_ secrets: [SecretBytes]) {
        let patterns = secrets.flatMap(Self.patterns(of:))
        var (byBucket, isTaken) = ([Int: [Int]](), [Bool](repeating: false, count: Self.buckets))
        for (index, pattern) in patterns.enumerated() {
            let window = pattern.withBytes { bytes in
                (0..<Self.windowBytes).reduce(UInt64(0)) { $0 << 8 | UInt64(bytes[$1]) }
            }
            let bucket = Self.bucket(window, factor)
            byBucket[bucket, default: []].append(index)
            isTaken[bucket] = true
        }
        (self.patterns, self.byBucket, self.isTaken) = (patterns, byBucket, isTaken)
    }

    /// What of an output may be shown after its next piece, or with `nil` at its end.
    mutating func redact(_ stream: OutputStream, _ piece: ArraySlice<UInt8>?) -> ArraySlice<UInt8> {
        guard !patterns.isEmpty else { return piece ?? [] }
        var state = held[stream] ?? Held()
        let raw = state.bytes + (piece ?? [])
        var shown = raw
        var (position, masked) = (0, state.masked)
        var window = raw.prefix(Self.windowBytes - 1).reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        while position < raw.count {
            var isBeginning = false
            if position + Self.windowBytes <= raw.count {
                window = window << 8 | UInt64(raw[position + Self.windowBytes - 1])
                let bucket = Self.bucket(window, factor)
                if isTaken[bucket] {
                    for index in byBucket[bucket] ?? [] {
                        let common = common(patterns[index], raw, position)
                        if common == patterns[index].count || (common > 0 && piece == nil) {
                            masked = max(masked, position + common)
                        } else if common > 0 {
                            isBeginning = true
                        }
                    }
                }
            } else if piece != nil {
                isBeginning = patterns.contains { common($0, raw, position) > 0 }
            }
            if isBeginning { break }
            if position < masked { shown[position] = Self.mask }
            position += 1
        }
        state.bytes = Array(raw[position...])
        state.masked = max(0, masked - position)
        held[stream] = state
        return shown[..<position]
    }

    /// How many bytes the pattern and what stands there have in common: all of the pattern, or all that
    /// stands there; 0 if they differ.
    private func common(_ pattern: SecretBytes, _ raw: [UInt8], _ position: Int) -> Int {
        let count = min(pattern.count, raw.count - position)
        return pattern.withBytes { bytes in
            for index in 0..<count where bytes[index] != raw[position + index] { return 0 }
            return count
        }
    }

    private static func bucket(_ window: UInt64, _ factor: UInt64) -> Int { Int((window &* factor) >> 48) }

    /// The secret, and its lines if it has several.
    private static func patterns(of secret: SecretBytes) -> [SecretBytes] {
        let lines = secret.withBytes { bytes in
            var (lines, start) = ([Range<Int>](), 0)
            for index in 0...bytes.count where index == bytes.count || isLineEnd(bytes[index]) {
                if index - start >= windowBytes, index - start < bytes.count { lines.append(start..<index) }
                start = index + 1
            }
            return lines
        }
        return (secret.count >= windowBytes ? [secret] : []) + lines.map(secret.part)
    }

    private static func isLineEnd(_ byte: UInt8) -> Bool {
        byte == UInt8(ascii: "\n") || byte == UInt8(ascii: "\r")
    }
}
