import Glibc

/// Networks that an operator lets guarded clients reach although `AddressGuard` refuses them.
///
/// Only there is plain HTTP spoken, too. Addresses of IPv6 that carry one of IPv4 are judged by their own
/// networks: `::ffff:10.0.0.0/104` lets mapped ones through, `10.0.0.0/8` does not.
package struct AllowedNetworks: Sendable, Equatable {
    private struct Network: Sendable, Equatable {
        let prefix: [UInt8]
        let bits: Int
    }

    private let networks: [Network]

    /// None.
    package static let none = AllowedNetworks(networks: [])
    /// Every address.
    package static let all = AllowedNetworks(networks: [
        Network(prefix: [0, 0, 0, 0], bits: 0), Network(prefix: [UInt8](repeating: 0, count: 16), bits: 0),
    ])

    private init(networks: [Network]) { self.networks = networks }

    /// `true`, `false`, or networks with commas between them, such as `10.1.0.0/16, fd00::/8`; an address is
    /// a network of one. `nil` for other text.
    package init?(_ text: String) {
        switch text {
        case "true": self = .all
        case "false", "": self = .none
        default:
            var networks: [Network] = []
            for part in text.split(separator: ",", omittingEmptySubsequences: false) {
                guard let network = Self.network(String(part.filter { $0 != " " })) else { return nil }
                networks.append(network)
            }
            self.init(networks: networks)
        }
    }

    private static func network(_ text: String) -> Network? {
        let halves = text.split(separator: "/", omittingEmptySubsequences: false)
        guard halves.count <= 2, let prefix = AddressGuard.address(of: String(halves[0])) else { return nil }
        guard halves.count == 2 else { return Network(prefix: prefix, bits: prefix.count * 8) }
        guard let bits = Int(halves[1]), (0...prefix.count * 8).contains(bits) else { return nil }
        return Network(prefix: prefix, bits: bits)
    }

    /// Whether there are none.
    package var isEmpty: Bool { networks.isEmpty }

    /// Whether an address (4 or 16 bytes in network order) lies in one of them.
    package func contains(_ address: [UInt8]) -> Bool {
        networks.contains {
            $0.prefix.count == address.count && AddressGuard.matches(address, $0.prefix, $0.bits)
        }
    }
}

extension AddressGuard {
    /// The bytes of an address in the usual notation; `nil` for a name and for other notations of numbers.
    package static func address(of text: String) -> [UInt8]? {
        for (family, count) in [(AF_INET, 4), (AF_INET6, 16)] {
            var bytes = [UInt8](repeating: 0, count: count)
            if unsafe inet_pton(family, text, &bytes) == 1 { return bytes }
        }
        return nil
    }

    /// What one caller has of the address space: an address of IPv4, or the first 64 bits of one of IPv6,
    /// below which whoever has one has all; `nil` for what is no address.
    package static func network(of text: String) -> [UInt8]? {
        guard let address = address(of: text), address.count == 16 else { return address(of: text) }
        return matches(address, mapped, 96) ? Array(address[12...]) : Array(address[..<8])
    }
}
