import ArgumentParser
import Domain
import Testing
import Wire

@testable import cloudrmm

/// What `cloudrmm demo seed` means to make.
struct DemoPlanTests {
    private let plan = DemoPlan(devices: 300, seed: 1)

    @Test(
        "the same numbers are the same plan, to the letter; another seed has other devices in the same places"
    )
    func determined() {
        #expect(plan == DemoPlan(devices: 300, seed: 1))
        let other = DemoPlan(devices: 300, seed: 2)
        #expect(plan.sites == other.sites && plan.people == other.people)
        let shared = Set(plan.devices.map(\.hostname)).intersection(other.devices.map(\.hostname))
        #expect(shared.count < 30)
        // What was written down once holds with every release, or a second run would add a second estate.
        #expect(
            plan.devices.prefix(3).map(\.hostname) == [
                "bak-vie-ws-cf75", "bak-lis-ws-2919", "bak-osl-lt-5d4d",
            ])
    }

    @Test("fewer devices are the beginning of more", arguments: [0, 1, 29, 30, 31, 299])
    func beginning(count: Int) {
        let fewer = DemoPlan(devices: count, seed: 1)
        #expect(fewer.devices == Array(plan.devices.prefix(count)))
        #expect(fewer.sites == plan.sites)
    }

    @Test("there is something of everything, at every level and in every place")
    func rich() {
        #expect(plan.partners.count == 3 && plan.organizations.count == 12 && plan.sites.count == 30)
        for index in plan.partners.indices { #expect(plan.organizations.contains { $0.partner == index }) }
        #expect(Set(plan.devices.map(\.site)) == Set(plan.sites.indices))
        #expect(Set(plan.sites.map(\.timeZone)).count > 8)
        #expect(Set(plan.devices.map(\.platform)) == ["linux", "macos", "windows"])
        #expect(
            Set(plan.devices.flatMap(\.tags)).isSuperset(of: ["server", "laptop", "kiosk", "workstation"]))
        #expect(plan.devices.contains { $0.isSuspended } && plan.devices.contains { $0.displayName != nil })
        #expect(
            plan.devices.allSatisfy {
                $0.customFields.count == 8 && $0.customFields["operatingSystem"] != nil
            })
        #expect(Set(plan.jobs.map(\.kind)) == Set(JobKind.allCases))
        #expect(Set(plan.jobs.map(\.organization)) == Set(plan.organizations.indices))
        let levels = plan.people.flatMap(\.places).map { place in
            switch place {
            case .platform: "platform"
            case .partner: "partner"
            case .organization: "organization"
            case .site: "site"
            }
        }
        #expect(Set(levels) == ["platform", "partner", "organization", "site"])
    }

    @Test("names are unique where they are looked for, and fit the systems that they are of")
    func unique() {
        let most = DemoPlan(devices: DemoPlan.devicesAllowed.upperBound, seed: .max)
        #expect(Set(most.devices.map(\.hostname)).count == most.devices.count)
        #expect(Set(most.devices.map(\.machineID)).count == most.devices.count)
        #expect(most.devices.allSatisfy { (12...15).contains($0.hostname.utf8.count) })
        #expect(Set(plan.partners.map(\.name)).count == plan.partners.count)
        #expect(Set(plan.organizations.map(\.name)).count == plan.organizations.count)
        #expect(Set(plan.sites.map { "\($0.organization) \($0.name)" }).count == plan.sites.count)
        #expect(Set(plan.people.map(\.email)).count == plan.people.count)
    }

    @Test("every address is of a domain for examples, and every name says that it is made up")
    func fictitious() {
        let addresses =
            plan.people.map(\.email) + plan.partners.compactMap(\.branding.supportEmail)
            + (plan.organizations.flatMap(\.contacts) + plan.sites.flatMap(\.contacts)).compactMap(\.email)
        #expect(addresses.count > 100)
        for address in addresses {
            let domain = address.split(separator: "@").last ?? ""
            #expect(
                ["example.com", "example.org", "example.net"].contains {
                    domain == $0 || domain.hasSuffix(".\($0)")
                })
            #expect(EmailAddress(address) != nil, "\(address)")
        }
        for name in plan.partners.map(\.name) + plan.organizations.map(\.name) {
            #expect(["Example ", "Sample ", "Fictional "].contains { name.hasPrefix($0) }, "\(name)")
        }
    }

    @Test("jobs name devices that are in use and of their organization")
    func jobs() {
        for job in plan.jobs {
            guard case .devices(let numbers) = job.target else { continue }
            #expect(!numbers.isEmpty && Set(numbers).count == numbers.count)
            for number in numbers {
                let device = plan.devices[number]
                #expect(!device.isSuspended && plan.sites[device.site].organization == job.organization)
            }
        }
        #expect(DemoPlan(devices: 0, seed: 1).jobs.isEmpty)
    }

    @Test(
        "a number of devices out of bounds is refused by name, value and limit",
        arguments: ["-1", "5001", "many"])
    func bounds(count: String) {
        let refused = #expect(throws: (any Error).self) {
            try CloudRMM.parseAsRoot(["demo", "seed", "--devices=\(count)"])
        }
        guard let refused else { return }
        let message = CloudRMM.fullMessage(for: refused)
        #expect(message.contains("--devices") || message.contains("devices"), "\(message)")
        #expect(message.contains(count), "\(message)")
        if count != "many" { #expect(message.contains("0 to 5000"), "\(message)") }
    }

    @Test("both bounds are allowed", arguments: ["0", "5000"])
    func allowed(count: String) throws {
        _ = try CloudRMM.parseAsRoot(["demo", "seed", "--devices", count, "--seed", "18446744073709551615"])
    }
}
