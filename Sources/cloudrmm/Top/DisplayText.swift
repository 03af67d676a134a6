/// Text as a terminal lays it out: in columns, of which some characters take two and some none.
struct DisplayText {
    /// The columns that text takes.
    static func width(of text: some StringProtocol) -> Int { text.reduce(0) { $0 + width(of: $1) } }

    /// Text of exactly so many columns: cut with an ellipsis, or filled up with spaces on the one side.
    static func fitted(_ text: String, to columns: Int, alignedRight: Bool = false) -> String {
        guard columns > 0 else { return "" }
        let whole = width(of: text)
        guard whole > columns else {
            let space = String(repeating: " ", count: columns - whole)
            return alignedRight ? space + text : text + space
        }
        var (shown, taken) = ("", 0)
        for character in text {
            let next = width(of: character)
            if taken + next > columns - 1 { break }
            shown.append(character)
            taken += next
        }
        return shown + "…" + String(repeating: " ", count: columns - 1 - taken)
    }

    private static func width(of character: Character) -> Int {
        guard let first = character.unicodeScalars.first else { return 0 }
        switch first.properties.generalCategory {
        case .nonspacingMark, .enclosingMark: return 0
        default: break
        }
        // East Asian wide characters and emoji, as UAX #11 and terminals have them.
        let isWide = character.unicodeScalars.contains { scalar in
            wide.contains { $0.contains(scalar.value) }
                || (scalar.properties.isEmojiPresentation || scalar.value == 0xFE0F)
        }
        return isWide ? 2 : 1
    }

    private static let wide: [ClosedRange<UInt32>] = [
        0x1100...0x115F, 0x2E80...0x303E, 0x3041...0x33FF, 0x3400...0x4DBF, 0x4E00...0x9FFF, 0xA000...0xA4CF,
        0xA960...0xA97F, 0xAC00...0xD7A3, 0xF900...0xFAFF, 0xFE30...0xFE6F, 0xFF00...0xFF60, 0xFFE0...0xFFE6,
        0x1F300...0x1F64F, 0x1F900...0x1F9FF, 0x20000...0x3FFFD,
    ]
}
