import Domain
import Wire

/// What `cloudrmm demo seed` makes of a number of devices and a seed: nothing but names and facts, so that
/// the same numbers are the same estate on any installation.
///
/// The tenancy and its people are the same for every seed, which decides the devices. A plan of fewer devices
/// is the beginning of one of more. All names are plainly made up, and all addresses are of the domains that
/// RFC 2606 sets apart for examples.
struct DemoPlan: Equatable {
    /// How many devices there may be, and how many there are unless said.
    static let devicesAllowed = 0...5_000
    static let devicesDefault = 300

    let partners: [DemoPartner]
    let organizations: [DemoOrganization]
    let sites: [DemoSite]
    let people: [DemoPerson]
    let devices: [DemoDevice]
    let jobs: [DemoJob]

    /// The plan of so many devices, which a seed decides.
    init(devices count: Int, seed: UInt64) {
        partners = DemoPartner.all
        organizations = DemoOrganization.all
        sites = DemoOrganization.all.enumerated().flatMap { DemoSite.all(of: $0, $1) }
        people = DemoPerson.all(partners: partners, organizations: organizations, sites: sites)
        devices = DemoFleet(sites: sites, seed: seed).devices(count)
        jobs = DemoJob.all(sites: sites, devices: devices)
    }
}

/// A managed service provider of the plan.
struct DemoPartner: Equatable {
    let name: String
    let domain: String
    let accentColor: String

    static let all = [
        DemoPartner(name: "Example Managed Services", domain: "example.com", accentColor: "#1f6feb"),
        DemoPartner(name: "Sample IT Support", domain: "example.org", accentColor: "#2da44e"),
        DemoPartner(name: "Fictional Systems Care", domain: "example.net", accentColor: "#8250df"),
    ]

    /// How it looks to its customers.
    var branding: Branding {
        var branding = Branding()
        branding.displayName = "\(name) (demo)"
        branding.accentColor = accentColor
        branding.supportEmail = "support@\(domain)"
        branding.supportPhone = "+1 202 555 0100"
        branding.supportUrl = "https://support.\(domain)/"
        return branding
    }

    /// A role that it makes for its own people.
    static let dispatcher = (
        name: "Dispatcher (demo)",
        permissions: [
            "organizations:read", "sites:read", "devices:read", "jobs:read", "jobs:run", "jobs:cancel",
            "queues:read",
        ]
    )
}

/// A customer of the plan.
struct DemoOrganization: Equatable {
    /// Whose it is: an index of `DemoPlan.partners`.
    let partner: Int
    let name: String
    /// What its host names begin with.
    let code: String
    let domain: String
    /// Where its sites are: indices of `DemoCity.all`; the first is its seat.
    let cities: [Int]

    static let all: [DemoOrganization] = {
        let trades = [
            ("Bakery", "bak"), ("Dental Clinic", "den"), ("Law Office", "law"), ("Brewery", "brw"),
            ("Primary School", "sch"), ("Museum", "mus"), ("Logistics", "log"), ("Print Shop", "prt"),
            ("Garden Centre", "gdn"), ("Ferry Line", "fry"), ("Theatre", "thr"), ("Observatory", "obs"),
        ]
        return trades.enumerated().map { index, trade in
            let (partner, rank) = (index / 4, index % 4)
            let word = DemoPartner.all[partner].name.prefix { $0 != " " }
            let label = trade.0.lowercased().split(separator: " ").joined(separator: "-")
            return DemoOrganization(
                partner: partner, name: "\(word) \(trade.0)", code: trade.1,
                domain: "\(label).\(DemoPartner.all[partner].domain)",
                cities: (0..<4 - rank).map { (index * 5 + $0) % DemoCity.all.count })
        }
    }()

    /// Its time zone: that of its seat.
    var timeZone: String { DemoCity.all[cities[0]].timeZone }

    /// Whom to ask.
    var contacts: [Contact] {
        [
            Contact(
                name: "Front desk", role: "Reception", email: "front-desk@\(domain)", phone: "+1 202 555 0101"
            ),
            Contact(name: "IT lead", role: "Approves changes", email: "it-lead@\(domain)"),
        ]
    }
}

/// Where sites are.
struct DemoCity: Equatable {
    let name: String
    let code: String
    let timeZone: String

    static let all = [
        DemoCity(name: "Vienna", code: "vie", timeZone: "Europe/Vienna"),
        DemoCity(name: "Lisbon", code: "lis", timeZone: "Europe/Lisbon"),
        DemoCity(name: "Oslo", code: "osl", timeZone: "Europe/Oslo"),
        DemoCity(name: "Dublin", code: "dub", timeZone: "Europe/Dublin"),
        DemoCity(name: "Toronto", code: "tor", timeZone: "America/Toronto"),
        DemoCity(name: "Denver", code: "dnv", timeZone: "America/Denver"),
        DemoCity(name: "Bogota", code: "bog", timeZone: "America/Bogota"),
        DemoCity(name: "Nairobi", code: "nbo", timeZone: "Africa/Nairobi"),
        DemoCity(name: "Kolkata", code: "kol", timeZone: "Asia/Kolkata"),
        DemoCity(name: "Singapore", code: "sin", timeZone: "Asia/Singapore"),
        DemoCity(name: "Tokyo", code: "tyo", timeZone: "Asia/Tokyo"),
        DemoCity(name: "Auckland", code: "akl", timeZone: "Pacific/Auckland"),
    ]
}

/// A place of a customer of the plan.
struct DemoSite: Equatable {
    /// Whose it is: an index of `DemoPlan.organizations`.
    let organization: Int
    /// Which of its organization's it is; the first is the seat.
    let rank: Int
    let name: String
    /// What its host names begin with.
    let code: String
    let timeZone: String
    let contacts: [Contact]

    /// Those of an organization.
    static func all(of index: Int, _ organization: DemoOrganization) -> [DemoSite] {
        organization.cities.enumerated().map { rank, place in
            let city = DemoCity.all[place]
            let what = ["headquarters", "branch", "warehouse", "workshop"][rank]
            return DemoSite(
                organization: index, rank: rank, name: "\(city.name) \(what)",
                code: "\(organization.code)-\(city.code)", timeZone: city.timeZone,
                contacts: [
                    Contact(
                        name: "Caretaker", role: "Has the keys",
                        email: "\(city.code)-caretaker@\(organization.domain)",
                        phone: "+1 202 555 01\(10 + place)")
                ])
        }
    }
}
