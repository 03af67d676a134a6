import Wire

/// What a seeding made, and what of its plan was there before.
struct DemoSummary {
    /// How many of a kind.
    struct Count: Equatable {
        var made = 0
        var found = 0

        mutating func add(_ isThere: Bool) {
            if isThere { found += 1 } else { made += 1 }
        }
    }

    var partners = Count()
    var organizations = Count()
    var sites = Count()
    var roles = Count()
    var people = Count()
    var bindings = Count()
    var devices = Count()
    var jobs = Count()
    /// Enrolment tokens, each used up by the devices that it was made for.
    var tokens = 0
    /// Addresses with the links of those who were made in this run, if they were asked for.
    var invitations: [(email: String, token: String)] = []

    private var counts: [(name: String, member: String, count: Count)] {
        [
            ("partners", "partners", partners), ("organizations", "organizations", organizations),
            ("sites", "sites", sites), ("roles", "roles", roles), ("people", "users", people),
            ("roles of people", "bindings", bindings),
            ("enrolment tokens, used up", "enrollmentTokens", Count(made: tokens)),
            ("devices", "devices", devices), ("jobs", "jobs", jobs),
        ]
    }

    /// As a table, with what to do next.
    func print() {
        var table = Table("WHAT", "MADE", "THERE BEFORE")
        for row in counts { table.add(row.name, "\(row.count.made)", "\(row.count.found)") }
        table.print()
        if !invitations.isEmpty {
            Terminal.print("")
            var links = Table("INVITED", "LINK FOR cloudrmm accept")
            for invitation in invitations { links.add(invitation.email, invitation.token) }
            // A link that is cut is none.
            for line in links.lines(width: .max) { Terminal.print(line) }
        }
        Terminal.print(
            """

            Look at it:
              cloudrmm partners list
              cloudrmm organizations list
              cloudrmm devices list --limit 500
              cloudrmm jobs list
              cloudrmm queues list
            'cloudrmm users list' names people; 'users invite ID' makes the link by which one sets a password.
            No agent belongs to these devices: they stay offline, and jobs for them wait until they expire.
            """)
    }

    /// As one line of JSON.
    func printJSON() {
        var writer = JSONWriter()
        writer.object { writer in
            for row in counts {
                writer.object(row.member) { writer in
                    writer.field("made", row.count.made)
                    writer.field("found", row.count.found)
                }
            }
            writer.field(
                "invitations", Dictionary(invitations.map { ($0.email, $0.token) }) { first, _ in first })
        }
        Terminal.print(String(decoding: writer.bytes, as: UTF8.self))
    }
}
