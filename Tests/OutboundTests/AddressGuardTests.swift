import Glibc
import Outbound
import Testing

@Suite("The address guard")
struct AddressGuardTests {
    @Test(
        "refuses what does not lead to the public internet",
        arguments: [
            ("0.0.0.0", "this network"), ("0.1.2.3", "this network"),
            ("10.0.0.1", "private"), ("172.16.0.1", "private"), ("172.31.255.255", "private"),
            ("192.168.1.1", "private"), ("100.64.0.1", "shared"), ("100.127.255.255", "shared"),
            ("127.0.0.1", "loopback"), ("127.255.0.9", "loopback"),
            ("169.254.169.254", "metadata"), ("168.63.129.16", "metadata"),
            ("192.0.2.1", "documentation"), ("198.51.100.7", "documentation"),
            ("203.0.113.9", "documentation"), ("198.19.0.1", "benchmarking"),
            ("192.0.0.8", "assignments"), ("192.88.99.1", "6to4"),
            ("224.0.0.1", "multicast"), ("239.1.1.1", "multicast"), ("240.0.0.1", "reserved"),
            ("255.255.255.255", "broadcast"),
            ("::", "unspecified"), ("::1", "loopback"), ("::127.0.0.1", "global unicast"),
            ("::ffff:127.0.0.1", "loopback"), ("::ffff:10.1.2.3", "mapped"),
            ("::ffff:169.254.169.254", "metadata"), ("::ffff:0:127.0.0.1", "global unicast"),
            ("64:ff9b::10.0.0.1", "NAT64"), ("64:ff9b::7f00:1", "NAT64"), ("64:ff9b:1::8.8.8.8", "NAT64"),
            ("2002:7f00:1::", "6to4"), ("2002:a00:1::1", "6to4"), ("2002:a9fe:a9fe::1", "6to4"),
            ("2001::1", "Teredo"), ("2001:10::1", "assignments"), ("2001:db8::1", "documentation"),
            ("3fff::1", "documentation"), ("fc00::1", "unique local"), ("fd00:ec2::254", "unique local"),
            ("fe80::1", "link-local"), ("febf::1", "link-local"), ("fec0::1", "site-local"),
            ("ff02::1", "multicast"), ("100::1", "global unicast"), ("4000::1", "global unicast"),
        ])
    func refuses(text: String, what: String) throws {
        let reason = try #require(AddressGuard.refusal(for: try bytes(text)), "\(text) was let through")
        #expect(reason.contains(what))
    }

    @Test(
        "lets public addresses through, also right beside refused networks",
        arguments: [
            "1.1.1.1", "9.255.255.255", "11.0.0.0", "100.63.255.255", "100.128.0.0", "126.255.255.255",
            "128.0.0.0", "168.63.129.17", "169.253.0.1", "172.15.255.255", "172.32.0.0", "192.167.255.255",
            "192.169.0.0", "198.17.255.255", "198.20.0.0", "223.255.255.255",
            "2606:4700::1111", "2001:200::1", "::ffff:1.1.1.1", "64:ff9b::1.1.1.1", "2002:101:101::1",
        ])
    func allows(text: String) throws {
        #expect(AddressGuard.refusal(for: try bytes(text)) == nil)
    }

    @Test("refuses what is not an address", arguments: [0, 3, 5, 15, 17])
    func refusesOtherLengths(count: Int) {
        #expect(AddressGuard.refusal(for: [UInt8](repeating: 8, count: count)) == "not an IP address")
    }

    private func bytes(_ text: String) throws -> [UInt8] {
        var result = [UInt8](repeating: 0, count: text.contains(":") ? 16 : 4)
        let family = text.contains(":") ? AF_INET6 : AF_INET
        let status = unsafe result.withUnsafeMutableBytes { unsafe inet_pton(family, text, $0.baseAddress) }
        try #require(status == 1, "\(text) does not parse")
        return result
    }
}

@Suite("Allowed networks")
struct AllowedNetworksTests {
    @Test("are read as networks and addresses, and hold those addresses alone")
    func reading() throws {
        let networks = try #require(AllowedNetworks("10.1.0.0/16, fd00::/8,192.168.0.7"))
        for (text, isInside) in [
            ("10.1.255.1", true), ("10.2.0.1", false), ("fdff::1", true), ("fc00::1", false),
            ("192.168.0.7", true), ("192.168.0.8", false), ("::ffff:10.1.0.1", false), ("8.8.8.8", false),
        ] {
            let address = try #require(AddressGuard.address(of: text))
            #expect(networks.contains(address) == isInside, "\(text)")
        }
        #expect(AllowedNetworks("true") == .all && AllowedNetworks("false") == AllowedNetworks.none)
        #expect(AllowedNetworks.all.contains([127, 0, 0, 1]))
        #expect(!AllowedNetworks.none.contains([127, 0, 0, 1]))
    }

    @Test(
        "are refused in any other notation",
        arguments: [
            "yes", "10.0.0.0/33", "10.0.0.0/-1", "10.0.0.0/", "10.0.0/8", "a", "10.0.0.0/8,", "1/2/3",
        ])
    func refusal(text: String) { #expect(AllowedNetworks(text) == nil) }

    @Test("One caller's network is an address of IPv4, and the first 64 bits of IPv6")
    func networks() {
        let one: [UInt8] = [0x20, 0x01, 0x0D, 0xB8, 0, 1, 0, 2]
        for (text, network) in [
            ("192.0.2.1", [192, 0, 2, 1]), ("::ffff:192.0.2.1", [192, 0, 2, 1]),
            ("2001:db8:1:2::7", one), ("2001:db8:1:2:ffff::", one),
            ("2001:db8:1:3::7", one.dropLast() + [3]), ("::1", [UInt8](repeating: 0, count: 8)),
        ] as [(String, [UInt8])] { #expect(AddressGuard.network(of: text) == network, "\(text)") }
        #expect(AddressGuard.network(of: "rmm.example") == nil)
    }

    @Test("An address has the usual notation and no other", arguments: ["2130706433", "0x7f.1", "", "a"])
    func notation(text: String) { #expect(AddressGuard.address(of: text) == nil) }
}
