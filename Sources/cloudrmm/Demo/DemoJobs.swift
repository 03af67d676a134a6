import Domain
import Wire

/// A job of the plan. Its devices never come online, so it waits until it expires, unless it is ended here.
struct DemoJob: Equatable {
    /// Whom it is for, by index.
    enum Target: Equatable {
        case devices([Int])
        case site(Int)
        case organization
    }

    /// What becomes of it once it is submitted.
    enum Fate: Equatable {
        case waits, isPaused, isCancelled
    }

    /// Whose it is: an index of `DemoPlan.organizations`.
    let organization: Int
    let target: Target
    let kind: JobKind
    let script: Script?
    let priority: Priority
    let expiresInSeconds: Int
    let attempts: Int
    let fate: Fate

    private init(
        _ kind: JobKind, _ target: Target, of organization: Int, script: Script? = nil,
        _ priority: Priority = .standard, expiresInSeconds: Int = Limits.expiresInSecondsDefault,
        attempts: Int = 1, fate: Fate = .waits
    ) {
        (self.kind, self.target, self.organization, self.script) = (kind, target, organization, script)
        (self.priority, self.expiresInSeconds) = (priority, expiresInSeconds)
        (self.attempts, self.fate) = (attempts, fate)
    }

    /// Jobs of every kind for each organization that has devices in use, in the order of their submission.
    static func all(sites: [DemoSite], devices: [DemoDevice]) -> [DemoJob] {
        let active = devices.indices.filter { !devices[$0].isSuspended }
        let byOrganization = Dictionary(grouping: active) { sites[devices[$0].site].organization }
        return byOrganization.keys.sorted().flatMap { organization in
            let own = byOrganization[organization, default: []]
            let site = devices[own[0]].site
            return [
                DemoJob(
                    .ping, .devices(Array(own.prefix(3))), of: organization, .interactive,
                    expiresInSeconds: 60),
                DemoJob(.sysinfo, .site(site), of: organization),
                DemoJob(
                    .script, .organization, of: organization, script: Script(.sh, "df -h /\n"), .bulk,
                    expiresInSeconds: Limits.expiresInSeconds.upperBound, attempts: 3),
                DemoJob(
                    .script, .devices(Array(own.prefix(5))), of: organization,
                    script: Script(.python3, "import platform\nprint(platform.platform())\n"),
                    fate: organization.isMultiple(of: 2) ? .isPaused : .isCancelled),
            ]
        }
    }
}
