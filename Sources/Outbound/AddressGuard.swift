/// Decides whether an address may be reached on behalf of a tenant.
///
/// It judges the final socket address, after resolution, so that no name, redirect or notation of a number
/// can lead inside. Only global unicast is left over; addresses that carry an IPv4 address are judged by that
/// one. Source: IANA special-purpose address registries (RFC 6890) and the metadata services of the large
/// clouds.
package enum AddressGuard {
    /// Why the address (4 or 16 bytes in network order) is refused; nil when it may be reached.
    package static func refusal(for address: [UInt8]) -> String? {
        switch address.count {
        case 4: refusalV4(address)
        case 16: refusalV6(address)
        default: "not an IP address"
        }
    }

    /// Whether the address stays on this machine (127.0.0.0/8, ::1, ::ffff:127.0.0.0/104).
    package static func isLoopback(_ address: [UInt8]) -> Bool {
        switch address.count {
        case 4: address[0] == 127
        case 16:
            address == [UInt8](repeating: 0, count: 15) + [1]
                || (matches(address, mapped, 96) && address[12] == 127)
        default: false
        }
    }

    static let mapped: [UInt8] = [0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xFF, 0xFF]
    private static let translated: [UInt8] = [0, 0x64, 0xFF, 0x9B, 0, 0, 0, 0, 0, 0, 0, 0]

    private static let networksV4: [(prefix: [UInt8], bits: Int, what: String)] = [
        ([0], 8, "this network"),
        ([10], 8, "private network"),
        ([100, 64], 10, "shared address space"),
        ([127], 8, "loopback"),
        ([168, 63, 129, 16], 32, "cloud metadata"),
        ([169, 254], 16, "link-local or cloud metadata"),
        ([172, 16], 12, "private network"),
        ([192, 0, 0], 24, "protocol assignments"),
        ([192, 0, 2], 24, "documentation"),
        ([192, 88, 99], 24, "6to4 relay"),
        ([192, 168], 16, "private network"),
        ([198, 18], 15, "benchmarking"),
        ([198, 51, 100], 24, "documentation"),
        ([203, 0, 113], 24, "documentation"),
        ([224], 4, "multicast"),
        ([240], 4, "reserved or broadcast"),
    ]

    private static let networksV6: [(prefix: [UInt8], bits: Int, what: String)] = [
        ([0, 0x64, 0xFF, 0x9B, 0, 1], 48, "local NAT64"),
        ([0x20, 0x01, 0, 0], 32, "Teredo"),
        ([0x20, 0x01], 23, "protocol assignments"),
        ([0x20, 0x01, 0x0D, 0xB8], 32, "documentation"),
        ([0x3F, 0xFF], 20, "documentation"),
        ([0xFC], 7, "unique local"),
        ([0xFE, 0x80], 10, "link-local"),
        ([0xFE, 0xC0], 10, "site-local"),
        ([0xFF], 8, "multicast"),
    ]

    private static func refusalV4(_ address: [UInt8]) -> String? {
        networksV4.first { matches(address, $0.prefix, $0.bits) }?.what
    }

    private static func refusalV6(_ address: [UInt8]) -> String? {
        if isLoopback(address) { return "loopback" }
        if address.allSatisfy({ $0 == 0 }) { return "unspecified" }
        if matches(address, mapped, 96) {
            return refusalV4(Array(address[12...])).map { "\($0) as mapped IPv4" }
        }
        if matches(address, translated, 96) {
            return refusalV4(Array(address[12...])).map { "\($0) behind NAT64" }
        }
        if matches(address, [0x20, 0x02], 16) {
            return refusalV4(Array(address[2..<6])).map { "\($0) behind 6to4" }
        }
        if let network = networksV6.first(where: { matches(address, $0.prefix, $0.bits) }) {
            return network.what
        }
        return matches(address, [0x20], 3) ? nil : "not global unicast"
    }

    static func matches(_ address: [UInt8], _ prefix: [UInt8], _ bits: Int) -> Bool {
        for bit in stride(from: 0, to: bits, by: 8) {
            let mask: UInt8 = bits - bit >= 8 ? 0xFF : ~(0xFF >> UInt8(bits - bit))
            let expected = bit / 8 < prefix.count ? prefix[bit / 8] : 0
            if address[bit / 8] & mask != expected & mask { return false }
        }
        return true
    }
}
