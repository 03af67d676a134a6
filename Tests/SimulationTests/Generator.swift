import Domain

/// SplitMix64: the same numbers for the same seed.
struct Generator: RandomNumberGenerator {
    var state: UInt64

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var z = state
        z = (z ^ (z >> 30)) &* 0xBF58_476D_1CE4_E5B9
        z = (z ^ (z >> 27)) &* 0x94D0_49BB_1331_11EB
        return z ^ (z >> 31)
    }

    /// One of `0..<bound`.
    mutating func below(_ bound: Int) -> Int { Int(next() >> 1) % bound }

    /// True in so many of 1,000 cases.
    mutating func chance(_ thousandths: Int) -> Bool { below(1_000) < thousandths }

    mutating func pick<Element>(_ elements: [Element]) -> Element? {
        elements.isEmpty ? nil : elements[below(elements.count)]
    }
}

/// Ids in the order in which they are drawn, the same for the same seed.
struct Names {
    private var drawn: UInt64 = 0

    mutating func next<Subject>() -> ID<Subject> {
        drawn += 1
        return ID(UniqueID(high: 0x0190_0000_0000_7000 + drawn << 16, low: 0x8000_0000_0000_0000 | drawn))
    }
}
