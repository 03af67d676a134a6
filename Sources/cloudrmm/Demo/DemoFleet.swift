/// A computer of the plan, as its agent and its people would describe it.
struct DemoDevice: Equatable {
    /// Where it is: an index of `DemoPlan.sites`.
    let site: Int
    let hostname: String
    let platform: String
    let agentVersion: String
    let machineID: String
    let displayName: String?
    let tags: [String]
    let customFields: [String: String]
    let isSuspended: Bool
}

/// Numbers that a seed decides (SplitMix64), the same on every machine and with every release.
struct DemoGenerator {
    private var state: UInt64

    init(seed: UInt64) { state = seed }

    mutating func next() -> UInt64 {
        state &+= 0x9E37_79B9_7F4A_7C15
        var mixed = state
        mixed = (mixed ^ (mixed >> 30)) &* 0xBF58_476D_1CE4_E5B9
        mixed = (mixed ^ (mixed >> 27)) &* 0x94D0_49BB_1331_11EB
        return mixed ^ (mixed >> 31)
    }

    /// A number below another.
    mutating func below(_ bound: Int) -> Int { Int(next() % UInt64(bound)) }

    /// One of some.
    mutating func pick<Element>(_ elements: [Element]) -> Element { elements[below(elements.count)] }

    /// So many hexadecimal digits.
    mutating func digits(_ count: Int) -> String {
        (0..<count).map { _ in String(below(16), radix: 16) }.joined()
    }
}

/// Draws devices one after the other, each from the numbers behind the one before.
struct DemoFleet {
    /// What a computer is for, and what such computers are like.
    private struct Kind {
        let code: String
        let tag: String
        /// How many of a hundred are so.
        let share: Int
        let models: [String]
        let systems: [(platform: String, name: String)]
        let memory: [Int]
        let disks: [String]
    }

    private static let kinds = [
        Kind(
            code: "ws", tag: "workstation", share: 40, models: ["Example Tower 300", "Example Mini 5"],
            systems: [
                ("windows", "Windows 11 Pro 24H2"), ("windows", "Windows 11 Pro 23H2"),
                ("windows", "Windows 10 Pro 22H2"), ("linux", "Ubuntu 24.04 LTS"),
            ], memory: [8, 16, 32], disks: ["256 GB SSD", "512 GB SSD"]),
        Kind(
            code: "lt", tag: "laptop", share: 35,
            models: ["Example Book 13", "Example Book 15", "Sample Slate 12"],
            systems: [
                ("windows", "Windows 11 Pro 24H2"), ("windows", "Windows 11 Pro 23H2"),
                ("macos", "macOS 15.5"), ("macos", "macOS 14.7"), ("linux", "Debian 12"),
            ], memory: [8, 16, 24], disks: ["256 GB SSD", "512 GB SSD", "1 TB SSD"]),
        Kind(
            code: "sv", tag: "server", share: 15,
            models: ["Example Rack 1U", "Example Rack 2U", "Virtual machine"],
            systems: [
                ("windows", "Windows Server 2022"), ("linux", "Debian 12"), ("linux", "Ubuntu 22.04 LTS"),
            ], memory: [16, 32, 64, 128], disks: ["2 × 960 GB SSD", "4 × 4 TB disk"]),
        Kind(
            code: "ks", tag: "kiosk", share: 10, models: ["Sample Till 2", "Sample Panel 21"],
            systems: [("linux", "Debian 12"), ("windows", "Windows 11 IoT Enterprise")], memory: [4, 8],
            disks: ["64 GB flash", "128 GB SSD"]),
    ]

    private let sites: [DemoSite]
    private var generator: DemoGenerator
    private var taken: Set<String> = []

    init(sites: [DemoSite], seed: UInt64) {
        self.sites = sites
        generator = DemoGenerator(seed: seed)
    }

    /// So many devices: first one of each site, then more of an organization's seat than of what is behind.
    consuming func devices(_ count: Int) -> [DemoDevice] {
        (0..<count).map { draw(at: $0 < sites.count ? $0 : nil) }
    }

    private mutating func draw(at place: Int?) -> DemoDevice {
        let shares = sites.map { 5 - $0.rank }
        let site = weighted(shares)
        let kind = Self.kinds[weighted(Self.kinds.map(\.share))]
        let (platform, system) = generator.pick(kind.systems)
        let at = place ?? site
        let ring = ["ring-canary", "ring-early", "ring-broad"][weighted([1, 3, 12])]
        var tags = [kind.tag, ring]
        if generator.below(8) == 0 { tags.append("vip") }
        if kind.code == "sv", generator.below(2) == 0 { tags.append("backup") }
        let room = "\(1 + generator.below(4)).\(10 + generator.below(30))"
        let isNamed = generator.below(4) == 0
        let isSuspended = generator.below(40) == 0
        let fields = [
            "operatingSystem": system, "model": generator.pick(kind.models),
            "processor":
                "\(generator.pick([4, 6, 8, 12, 16])) cores, \(platform == "macos" ? "arm64" : "x86_64")",
            "memory": "\(generator.pick(kind.memory)) GiB", "disk": generator.pick(kind.disks),
            "serialNumber": "DEMO-\(generator.digits(8))", "room": room,
            "warrantyEnds": "20\(25 + generator.below(5))-\(["03", "06", "09", "12"][generator.below(4)])",
        ]
        return DemoDevice(
            site: at, hostname: hostname("\(sites[at].code)-\(kind.code)"), platform: platform,
            agentVersion: generator.pick(["0.2.0", "0.2.0", "0.2.0", "0.1.9"]),
            machineID: generator.digits(32),
            displayName: isNamed
                ? "\(kind.tag.prefix(1).uppercased())\(kind.tag.dropFirst()) in \(room)" : nil,
            tags: tags.sorted(), customFields: fields,
            // One of each site stays in use, so that jobs have somebody to be for.
            isSuspended: place == nil && isSuspended)
    }

    /// A place in a list of shares.
    private mutating func weighted(_ shares: [Int]) -> Int {
        var left = generator.below(shares.reduce(0, +))
        for (place, share) in shares.enumerated() {
            if left < share { return place }
            left -= share
        }
        preconditionFailure("the shares were added up wrong")
    }

    /// A name of at most 15 characters, as NetBIOS wants it, that no other device has.
    private mutating func hostname(_ prefix: String) -> String {
        while true {
            let name = "\(prefix)-\(generator.digits(4))"
            if taken.insert(name).inserted { return name }
        }
    }
}
