import Testing

@testable import Catalog

@Suite("A policy")
struct PolicyTests {
    private static let sound = """
        name: example
        summary: An example
        assignment:
          organizations: [Example Ltd]
          tags: [web, linux]
        schedules:
          - name: nightly
            job: report
            cron: "*/15 3-5 1,15 jan-mar mon"
            timezone: Europe/Berlin
            parameters:
              lines: 5
          - name: often
            job: report
            every: 6h
        checks:
          - name: root
            kind: disk
            path: /
            every: 5m
            warningPercent: 80
            criticalPercent: 90
          - name: web
            kind: service
            service: nginx@main.service
            every: 30s
          - name: script
            kind: script
            job: report
            every: 1d
        alertRules:
          - name: full
            check: root
            when: critical
            for: 10m
            severity: warning
            message: Nearly full

        """

    private let definitions: [String: Definition]

    init() throws {
        let text = """
            name: report
            summary: s
            kind: script
            interpreter: sh
            body: "true"
            parameters:
              - {name: lines, type: integer, min: 1, max: 9}
            """
        let report = try Definition.parse(file: "report.yaml", text: text) { _ in [] }
        definitions = ["report": report]
    }

    private func parse(_ text: String) throws -> Policy {
        try Policy.parse(file: "example.yaml", text: text, definitions: definitions)
    }

    @Test("has what the file says")
    func reads() throws {
        let policy = try parse(Self.sound)
        #expect(policy.name == "example")
        #expect(policy.assignment.organizations == ["Example Ltd"])
        #expect(policy.assignment.sites.isEmpty && policy.assignment.tags == ["web", "linux"])
        #expect(
            policy.schedules.map(\.trigger) == [.cron("*/15 3-5 1,15 jan-mar mon"), .every(.seconds(21_600))])
        #expect(policy.schedules.map(\.timezone) == ["Europe/Berlin", "UTC"])
        #expect(policy.schedules[0].parameters == ["lines": "5"])
        let thresholds = Policy.Thresholds(warningPercent: 80, criticalPercent: 90)
        #expect(
            policy.checks.map(\.probe) == [
                .disk(path: "/", thresholds: thresholds),
                .service("nginx@main.service"), .script(job: "report", parameters: [:]),
            ])
        #expect(policy.checks.map(\.interval) == [.seconds(300), .seconds(30), .seconds(86_400)])
        let rule = try #require(policy.alertRules.first)
        #expect(rule.condition == .critical && rule.severity == .warning && rule.lasting == .seconds(600))
    }

    /// What is replaced in the sound policy, and the line and words of the problem that it makes.
    private static let mistakes: [(old: String, new: String, line: Int, words: String)] = [
        ("name: example", "name: other", 1, "'other' is not the file's name"),
        ("summary: An example\n", "", 1, "summary: is missing"),
        (
            "assignment:\n  organizations: [Example Ltd]\n  tags: [web, linux]\n", "", 1,
            "assignment: is missing"
        ),
        (
            "  organizations: [Example Ltd]\n  tags: [web, linux]\n", "  {}\n", 4,
            "names no device; give at least"
        ),
        ("organizations: [Example Ltd]", "organizations: []", 4, "must be a list that is not empty"),
        (
            "organizations: [Example Ltd]", "organisations: [a]", 4,
            "assignment.organisations: unknown field; allowed:"
        ),
        (
            "organizations: [Example Ltd]", "organizations: ['']", 4,
            "organizations[0]: must be a text of 1 to 200"
        ),
        ("job: report", "job: rapport", 8, "schedules[0].job: 'rapport' is not allowed; allowed: report"),
        ("lines: 5", "lines: 10", 12, "schedules[0].parameters.lines: '10' is not allowed; allowed: a whole"),
        ("lines: 5", "rows: 5", 12, "schedules[0].parameters.rows: unknown parameter; allowed: lines"),
        ("lines: 5", "lines: [5]", 12, "must have texts as values"),
        ("timezone: Europe/Berlin", "timezone: Mars/Base", 10, "'Mars/Base' is not known"),
        ("timezone: Europe/Berlin", "timezone: ../etc/passwd", 10, "is not known"),
        ("    cron: \"*/15 3-5 1,15 jan-mar mon\"\n", "", 7, "exactly one of cron and every"),
        ("every: 6h", "every: 6h\n    cron: '* * * * *'", 13, "exactly one of cron and every"),
        ("every: 6h", "every: 6h\n    timezone: UTC", 16, "timezone: is only for cron"),
        ("every: 6h", "every: 59s", 15, "a whole number with s, m, h or d, from 60s to 2592000s"),
        ("every: 6h", "every: 31d", 15, "'31d' is not allowed"), ("every: 6h", "every: 6", 15, "'6' is not"),
        ("every: 6h", "every: -6h", 15, "'-6h' is not"),
        ("every: 6h", "every: 99999999999d", 15, "is not allowed"),
        ("name: often", "name: nightly", 13, "schedules[1].name: 'nightly' is there twice"),
        (
            "kind: disk", "kind: disc", 18,
            "checks[0].kind: 'disc' is not allowed; allowed: disk, memory, service"
        ),
        ("path: /\n", "path: var\n", 19, "'var' is not allowed; allowed: an absolute path"),
        ("path: /\n", "path: /\n    service: x\n", 20, "service: is not for the kind disk; allowed: path,"),
        ("every: 5m", "every: 29s", 20, "from 30s to 86400s"),
        ("    every: 5m\n", "", 17, "checks[0].every: is missing"),
        ("warningPercent: 80", "warningPercent: 90", 21, "90 is not below criticalPercent, 90"),
        ("warningPercent: 80", "warningPercent: 0", 21, "from 1 to 100"),
        ("criticalPercent: 90", "criticalPercent: 101", 22, "from 1 to 100"),
        ("service: nginx@main.service", "service: '--all'", 25, "service: '--all' is not allowed"),
        ("service: nginx@main.service", "service: a/b", 25, "'a/b' is not allowed"),
        (
            "check: root", "check: boot", 33,
            "alertRules[0].check: 'boot' is not allowed; allowed: root, web, script"
        ),
        ("check: root", "check: web", 34, "'critical' is not allowed; allowed: failed for this check"),
        ("when: critical", "when: full", 34, "'full' is not allowed; allowed: warning, critical, failed"),
        ("for: 10m", "for: 25h", 35, "from 0s to 86400s"),
        ("severity: warning", "severity: bad", 36, "'bad' is not allowed; allowed: info, warning, critical"),
        (
            "message: Nearly full", "text: x", 37,
            "alertRules[0].text: unknown field; allowed: name, check, when"
        ),
    ]

    @Test("is refused with line, field and allowed values", arguments: mistakes)
    func refuses(mistake: (old: String, new: String, line: Int, words: String)) throws {
        try #require(Self.sound.contains(mistake.old))
        let text = Self.sound.replacing(mistake.old, with: mistake.new, maxReplacements: 1)
        let error = try #require(throws: CatalogProblems.self) { try parse(text) }
        #expect(
            error.problems.contains { $0.line == mistake.line && "\($0)".contains(mistake.words) },
            "\(mistake.new) gave \(error)")
    }

    @Test("is refused when it does nothing")
    func refusesNothing() throws {
        let text = "{name: example, summary: s, assignment: {tags: [a]}}"
        let error = try #require(throws: CatalogProblems.self) { try parse(text) }
        #expect(error.problems.map(\.message) == ["does nothing; give it schedules or checks"])
    }

    @Test(
        "takes sound cron expressions",
        arguments: [
            "* * * * *", "0 0 29 2 *", "59 23 31 12 7", "0-59/5 */2 1-31/10 jan,dec sun-sat", "0 0 31 2 mon",
        ])
    func takesCron(expression: String) throws {
        let policy = try parse(Self.sound.replacing("*/15 3-5 1,15 jan-mar mon", with: expression))
        #expect(policy.schedules[0].trigger == .cron(expression))
    }

    @Test(
        "refuses cron expressions that are misspelt or fit no day",
        arguments: [
            ("* * * *", "has 4 fields"), ("* * * * * *", "has 6 fields"), ("60 * * * *", "not a minute"),
            ("* 24 * * *", "not a hour"), ("* * 0 * *", "not a day of month"),
            ("* * 32 * *", "not a day of month"),
            ("* * * 13 *", "not a month"), ("* * * * 8", "not a day of week"),
            ("*/0 * * * *", "not a minute"),
            ("5/2 * * * *", "not a minute"), ("9-5 * * * *", "not a minute"),
            ("1,,2 * * * *", "not a minute"),
            ("1-2-3 * * * *", "not a minute"), ("-1 * * * *", "not a minute"), ("* * * foo *", "not a month"),
            ("*/2/2 * * * *", "not a minute"), ("0 0 30 2 *", "fits no day"),
            ("0 0 31 4,6,9,11 *", "fits no day"),
        ])
    func refusesCron(expression: String, words: String) throws {
        let text = Self.sound.replacing("*/15 3-5 1,15 jan-mar mon", with: expression)
        let error = try #require(throws: CatalogProblems.self) { try parse(text) }
        #expect(error.problems.map(\.field) == ["schedules[0].cron"])
        #expect(error.problems.first?.message.contains(words) == true)
    }
}
