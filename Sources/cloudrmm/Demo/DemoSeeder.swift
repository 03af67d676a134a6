import Client
import Domain
import Wire

/// Makes what a plan says and an installation does not have, by the API alone.
///
/// What is there is known by its name within what it belongs to: a partner, organization, site or role by its
/// name, a person by the address, a device by its host name. Jobs have no name: an organization that has
/// fewer than planned gets the last of them. So a run that was broken off is ended by the next one, and one
/// more adds nothing.
struct DemoSeeder {
    /// Enrolments under way at a time.
    static let enrolmentsMax = 8

    let api: APIClient
    let plan: DemoPlan
    /// Whether those who are made get links by which they set a password.
    let isInviting: Bool

    private(set) var summary = DemoSummary()
    private var partners: [PartnerID] = []
    private var organizations: [OrganizationID] = []
    private var sites: [SiteID] = []
    /// The dispatchers' role of each partner.
    private var dispatchers: [RoleID] = []
    private var devices: [DeviceID] = []

    init(api: APIClient, plan: DemoPlan, isInviting: Bool) {
        self.api = api
        self.plan = plan
        self.isInviting = isInviting
    }

    /// Makes everything. Beside partners that are not the plan's nothing is made unless that is said.
    mutating func seed(besideOthers: Bool) async throws -> DemoSummary {
        let present = try await everything { try await api.partners(state: "all", $0) }
        let names = Set(plan.partners.map(\.name))
        if !besideOthers, let other = present.first(where: { !names.contains($0.name) }) {
            let others = present.count { !names.contains($0.name) }
            throw Failure(
                .usage,
                "this installation has \(others) other \(others == 1 ? "partner" : "partners"), such as "
                    + "\(Terminal.harmless(other.name)); demo data comes beside them only with --add")
        }
        try await makePartners(present)
        try await makeOrganizations()
        try await makeSites()
        try await makeRoles()
        try await makePeople()
        try await makeDevices()
        try await makeJobs()
        return summary
    }

    // MARK: The tenancy

    private mutating func makePartners(_ present: [Partner]) async throws {
        for planned in plan.partners {
            let there = present.first { $0.name == planned.name }
            if let there { try require(there.state, "the partner", there.name) }
            summary.partners.add(there != nil)
            if let there {
                partners.append(there.id)
            } else {
                let new = NewPartner(name: planned.name, branding: planned.branding)
                partners.append(try await api.createPartner(new).id)
            }
        }
    }

    private mutating func makeOrganizations() async throws {
        for (index, partner) in partners.enumerated() {
            let present = try await everything {
                try await api.organizations(partner: partner, state: "all", $0)
            }
            for planned in plan.organizations where planned.partner == index {
                let there = present.first { $0.name == planned.name }
                if let there { try require(there.state, "the organization", there.name) }
                summary.organizations.add(there != nil)
                if let there {
                    organizations.append(there.id)
                } else {
                    let new = NewOrganization(
                        name: planned.name, partnerId: partner, timeZone: planned.timeZone,
                        contacts: planned.contacts)
                    organizations.append(try await api.createOrganization(new).id)
                }
            }
        }
    }

    private mutating func makeSites() async throws {
        for (index, organization) in organizations.enumerated() {
            let present = try await everything {
                try await api.sites(organization: organization, state: "all", $0)
            }
            for planned in plan.sites where planned.organization == index {
                let there = present.first { $0.name == planned.name }
                if let there { try require(there.state, "the site", there.name) }
                summary.sites.add(there != nil)
                if let there {
                    sites.append(there.id)
                } else {
                    let new = NewSite(
                        name: planned.name, organizationId: organization, timeZone: planned.timeZone,
                        contacts: planned.contacts)
                    sites.append(try await api.createSite(new).id)
                }
            }
        }
    }

    private func require(_ state: TenantState, _ what: String, _ name: String) throws {
        guard state == .active else {
            throw Failure(
                .usage, "\(what) \(Terminal.harmless(name)) is archived; restore or erase it, then seed again"
            )
        }
    }

    // MARK: People

    private mutating func makeRoles() async throws {
        let present = try await everything { try await api.roles($0) }
        for partner in partners {
            let home = Place(partnerId: partner)
            let there = present.first { $0.name == DemoPartner.dispatcher.name && $0.home == home }
            summary.roles.add(there != nil)
            if let id = there?.id {
                dispatchers.append(id)
            } else {
                let made = try await api.createRole(
                    NewRole(
                        name: DemoPartner.dispatcher.name, permissions: DemoPartner.dispatcher.permissions,
                        home: home))
                guard let id = made.id else {
                    throw Failure(.unreachable, "the API made a role without an id")
                }
                dispatchers.append(id)
            }
        }
    }

    private mutating func makePeople() async throws {
        let present = try await everything { try await api.users($0) }
        for planned in plan.people {
            let home = place(planned.home)
            let there = present.first { $0.email == planned.email && $0.home == home }
            summary.people.add(there != nil)
            let user: UserID
            if let there {
                user = there.id
            } else {
                let new = NewUser(email: planned.email, name: planned.name, home: home)
                user = try await api.createUser(new).id
            }
            try await bind(user, planned)
            // After the roles: a link is made for what somebody may do, and ends where that changes.
            if isInviting, there == nil {
                summary.invitations.append((planned.email, try await api.invite(user).token))
            }
        }
    }

    private mutating func bind(_ user: UserID, _ planned: DemoPerson) async throws {
        let present = try await everything { try await api.bindings(user: user, $0) }
        for level in planned.places {
            var new = NewBinding(userId: user, place: place(level))
            switch planned.role {
            case .builtin(let name): new.role = name
            case .dispatcher(let partner): new.roleId = dispatchers[partner]
            }
            let isThere = present.contains {
                $0.role == new.role && $0.roleId == new.roleId && $0.place == new.place
            }
            summary.bindings.add(isThere)
            if !isThere { _ = try await api.bind(new) }
        }
    }

    private func place(_ level: DemoPlace) -> Place {
        switch level {
        case .platform: Place()
        case .partner(let index): Place(partnerId: partners[index])
        case .organization(let index): Place(organizationId: organizations[index])
        case .site(let index): Place(siteId: sites[index])
        }
    }

    // MARK: Devices

    private mutating func makeDevices() async throws {
        // People may have moved one to another site, so all that there are count.
        var present: [String: Device] = [:]
        for organization in organizations {
            for device in try await everything({ try await api.devices(organization: organization, $0) }) {
                present[device.hostname] = device
            }
        }
        var ids: [Int: DeviceID] = [:]
        for (number, planned) in plan.devices.enumerated() {
            let there = present[planned.hostname]
            summary.devices.add(there != nil)
            ids[number] = there?.id
            // An edit that a run which was broken off has not come to.
            if let there, there.version == 1 {
                try await DemoEnroller(api: api).describe(there.id, planned)
            }
        }
        for (index, site) in sites.enumerated() {
            let missing = plan.devices.indices.filter { plan.devices[$0].site == index && ids[$0] == nil }
            guard !missing.isEmpty else { continue }
            Terminal.progress("\(plan.sites[index].name): enrolling \(missing.count) devices")
            ids.merge(try await enrol(missing, at: site)) { _, new in new }
            summary.tokens += 1
        }
        if summary.tokens > 0 { Terminal.endProgress() }
        devices = plan.devices.indices.compactMap { ids[$0] }
    }

    /// Enrols devices with one token, which is good for no more than them.
    private func enrol(_ numbers: [Int], at site: SiteID) async throws -> [Int: DeviceID] {
        let token = try await api.createEnrollmentToken(
            NewEnrollmentToken(siteId: site, maxUses: numbers.count))
        let enroller = DemoEnroller(api: api)
        return try await withThrowingTaskGroup(of: (Int, DeviceID).self) { [plan] group in
            var made: [Int: DeviceID] = [:]
            for (place, number) in numbers.enumerated() {
                if place >= Self.enrolmentsMax, let (done, id) = try await group.next() { made[done] = id }
                group.addTask { (number, try await enroller.enrol(plan.devices[number], by: token.token)) }
            }
            for try await (done, id) in group { made[done] = id }
            return made
        }
    }

    // MARK: Jobs

    private mutating func makeJobs() async throws {
        for (index, organization) in organizations.enumerated() {
            let planned = plan.jobs.filter { $0.organization == index }
            guard !planned.isEmpty else { continue }
            let page = try await api.jobs(
                organization: organization, PageOptions(limit: planned.count))
            summary.jobs.found += page.items.count
            for job in planned.dropFirst(page.items.count) {
                try await submit(job)
                summary.jobs.made += 1
            }
        }
    }

    private func submit(_ planned: DemoJob) async throws {
        let target: Target =
            switch planned.target {
            case .devices(let numbers): .devices(numbers.map { devices[$0] })
            case .site(let index): .site(sites[index])
            case .organization: .organization(organizations[planned.organization])
            }
        var new = NewJob(
            kind: planned.kind, target: target, script: planned.script,
            expiresInSeconds: planned.expiresInSeconds, priority: planned.priority)
        if planned.attempts > 1 { new.retry = Retry(maximumAttempts: planned.attempts) }
        let submitted: Submitted
        do {
            submitted = try await api.propose(new)
        } catch let problem as Problem where problem.code == "confirmationRequired" && problem.devices != nil
        {
            // As many as it reaches, which the plan means.
            new.confirmDevices = problem.devices
            submitted = try await api.propose(new)
        }
        // Else a guard that people have set has it wait for a second one.
        guard case .job(let job) = submitted else { return }
        switch planned.fate {
        case .waits: break
        case .isPaused: _ = try await api.pause(job.id)
        case .isCancelled: _ = try await api.cancel(job.id)
        }
    }

    // MARK: Lists

    private func everything<Item: WireObject>(
        _ read: (PageOptions) async throws -> Page<Item>
    ) async throws -> [Item] {
        var items: [Item] = []
        var cursor: String?
        repeat {
            let page = try await read(PageOptions(limit: Limits.page.upperBound, cursor: cursor))
            items += page.items
            cursor = page.next
        } while cursor != nil
        return items
    }
}
