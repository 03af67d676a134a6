import Foundation

extension Policy {
    /// Reads a policy file whose schedules and checks may name the given definitions.
    ///
    /// Throws `CatalogProblems` with everything that is wrong in the file.
    package static func parse(
        file name: String, text: String, definitions: [String: Definition]
    ) throws -> Policy {
        let problems = ProblemList(file: name)
        let node = try composeDocument(text, problems: problems)
        let allowed = ["name", "summary", "assignment", "schedules", "checks", "alertRules"]
        guard let fields = Fields(node, path: "", allowed: allowed, problems: problems) else {
            throw CatalogProblems(problems: problems.problems)
        }
        let policy = Policy(fields, definitions: definitions)
        try problems.check()
        return policy
    }

    /// Reads all fields; the result counts only when no problem was reported.
    private init(_ fields: Fields, definitions: [String: Definition]) {
        name = fields.fileName()
        summary = fields.text("summary", bytesMax: 200, isRequired: true) ?? ""
        assignment = Assignment(fields)
        let names = ["name", "job", "cron", "every", "timezone", "parameters"]
        schedules = fields.uniqueItems("schedules", allowed: names).map { item in
            Schedule(item, definitions: definitions)
        }
        checks = Self.checks(fields, definitions: definitions)
        alertRules = Self.alertRules(fields, checks: checks)
        if schedules.isEmpty && checks.isEmpty {
            fields.problems.add(fields.place, "", "does nothing; give it schedules or checks")
        }
    }

    private static func checks(_ fields: Fields, definitions: [String: Definition]) -> [Check] {
        let names = [
            "name", "kind", "every", "path", "service", "job", "parameters", "warningPercent",
            "criticalPercent",
        ]
        return fields.uniqueItems("checks", allowed: names).compactMap { item in
            let interval = item.duration("every", from: .seconds(30), to: .seconds(86_400), isRequired: true)
            guard let probe = Probe(item, definitions: definitions) else { return nil }
            return Check(name: item.text("name") ?? "", interval: interval ?? .seconds(60), probe: probe)
        }
    }

    private static func alertRules(_ fields: Fields, checks: [Check]) -> [AlertRule] {
        let names = ["name", "check", "when", "for", "severity", "message"]
        return fields.uniqueItems("alertRules", allowed: names).map { item in
            let check = item.text("check", isRequired: true) ?? ""
            let condition: Condition? = item.choice("when", isRequired: true)
            if let found = checks.first(where: { $0.name == check }) {
                let allowed = found.probe.conditions
                if let condition, !allowed.contains(condition) {
                    item.report(
                        "when", notAllowed(condition.rawValue, allowed.map(\.rawValue)) + " for this check")
                }
            } else if !check.isEmpty {
                item.report("check", notAllowed(check, checks.map(\.name)))
            }
            return AlertRule(
                name: item.text("name") ?? "", check: check, condition: condition ?? .failed,
                lasting: item.duration("for", from: .zero, to: .seconds(86_400)) ?? .zero,
                severity: item.choice("severity", isRequired: true) ?? .info, message: item.text("message"))
        }
    }
}

extension Policy.Assignment {
    fileprivate init(_ fields: Fields) {
        let allowed = ["organizations", "sites", "tags"]
        let assignment = fields.fields("assignment", allowed: allowed, isRequired: true)
        organizations = assignment?.texts("organizations") ?? []
        sites = assignment?.texts("sites") ?? []
        tags = assignment?.texts("tags") ?? []
        if let assignment, !allowed.contains(where: assignment.has) {
            fields.report(
                "assignment", "names no device; give at least one of \(allowed.joined(separator: ", "))")
        }
    }
}

extension Policy.Schedule {
    fileprivate init(_ fields: Fields, definitions: [String: Definition]) {
        name = fields.text("name") ?? ""
        (job, parameters) = fields.job(among: definitions)
        timezone = fields.text("timezone", bytesMax: 64) ?? "UTC"
        if !Self.isKnown(timezone: timezone) {
            fields.report(
                "timezone", "'\(timezone)' is not known; allowed: IANA names such as UTC or Europe/Berlin")
        }
        if fields.has("cron") == fields.has("every") {
            fields.problems.add(
                fields.place, fields.path("cron"), "exactly one of cron and every has to be there")
        }
        if fields.has("every") {
            if fields.has("timezone") { fields.report("timezone", "is only for cron, not for every") }
            trigger = .every(
                fields.duration("every", from: .seconds(60), to: .seconds(30 * 86_400)) ?? .seconds(60))
        } else {
            let expression = fields.text("cron", bytesMax: 200) ?? ""
            if !expression.isEmpty, let problem = CronSyntax.problem(in: expression) {
                fields.report("cron", problem)
            }
            trigger = .cron(expression)
        }
    }

    private static func isKnown(timezone: String) -> Bool {
        timezone == "UTC" || (timezone.contains("/") && TimeZone.knownTimeZoneIdentifiers.contains(timezone))
    }
}

extension Policy.Probe {
    private enum Kind: String, CaseIterable {
        case disk, memory, service, script

        var fields: [String] {
            switch self {
            case .disk: ["path", "warningPercent", "criticalPercent"]
            case .memory: ["warningPercent", "criticalPercent"]
            case .service: ["service"]
            case .script: ["job", "parameters"]
            }
        }
    }

    fileprivate init?(_ fields: Fields, definitions: [String: Definition]) {
        guard let kind: Kind = fields.choice("kind", isRequired: true) else { return nil }
        for other in Kind.allCases {
            for key in other.fields where fields.has(key) && !kind.fields.contains(key) {
                let allowed = kind.fields.joined(separator: ", ")
                fields.report(key, "is not for the kind \(kind.rawValue); allowed: \(allowed)")
            }
        }
        switch kind {
        case .disk:
            let path = fields.text("path", isRequired: true) ?? "/"
            if !path.hasPrefix("/") {
                fields.report("path", "'\(path)' is not allowed; allowed: an absolute path")
            }
            self = .disk(path: path, thresholds: Policy.Thresholds(fields))
        case .memory:
            self = .memory(thresholds: Policy.Thresholds(fields))
        case .service:
            let service = fields.text("service", bytesMax: 200, isRequired: true) ?? ""
            let isPlain =
                service.utf8.first != UInt8(ascii: "-")
                && service.unicodeScalars.allSatisfy {
                    $0.properties.isAlphabetic || "0123456789@._-:".contains(Character($0))
                }
            if !isPlain {
                fields.report(
                    "service",
                    "'\(service)' is not allowed; allowed: letters, digits, '@', '.', '_', ':', '-'")
            }
            self = .service(service)
        case .script:
            let (job, parameters) = fields.job(among: definitions)
            self = .script(job: job, parameters: parameters)
        }
    }

    /// The results that an alert rule can wait for.
    fileprivate var conditions: [Policy.Condition] {
        switch self {
        case .disk, .memory: [.warning, .critical]
        case .service, .script: [.failed]
        }
    }
}

extension Policy.Thresholds {
    fileprivate init(_ fields: Fields) {
        warningPercent = fields.integer("warningPercent", in: 1...100, isRequired: true) ?? 1
        criticalPercent = fields.integer("criticalPercent", in: 1...100, isRequired: true) ?? 100
        if fields.has("warningPercent"), fields.has("criticalPercent"), warningPercent >= criticalPercent {
            fields.report(
                "warningPercent", "\(warningPercent) is not below criticalPercent, \(criticalPercent)")
        }
    }
}

extension Fields {
    /// Items that each have a name of their own.
    fileprivate func uniqueItems(_ key: String, allowed: [String]) -> [Fields] {
        var names: Set<String> = []
        return items(key, allowed: allowed).map { item in
            if let name = item.text("name", bytesMax: 100, isRequired: true), !names.insert(name).inserted {
                item.report("name", "'\(name)' is there twice")
            }
            return item
        }
    }

    /// The fields `job` and `parameters`, checked against the definition that they name.
    fileprivate func job(among definitions: [String: Definition]) -> (
        job: String, parameters: [String: String]
    ) {
        let given = values("parameters")
        let parameters = Dictionary(given.map { ($0.name, $0.value) }) { first, _ in first }
        guard let job = text("job", isRequired: true) else { return ("", parameters) }
        guard let definition = definitions[job] else {
            report("job", notAllowed(job, definitions.keys.sorted()))
            return (job, parameters)
        }
        for (name, message) in definition.problems(with: parameters) {
            let place = given.first { $0.name == name }?.place ?? place("job")
            problems.add(place, path("parameters.\(name)"), message)
        }
        return (job, parameters)
    }

    /// A whole number with the unit `s`, `m`, `h` or `d`.
    fileprivate func duration(
        _ key: String, from low: Duration, to high: Duration, isRequired: Bool = false
    ) -> Duration? {
        guard let text = text(key, bytesMax: 20, isRequired: isRequired) else { return nil }
        let units: [Character: Int] = ["s": 1, "m": 60, "h": 3600, "d": 86_400]
        if let unit = text.last.flatMap({ units[$0] }), let count = UInt16(text.dropLast()) {
            let duration = Duration.seconds(Int(count) * unit)
            if low <= duration && duration <= high { return duration }
        }
        let limits = "from \(low.components.seconds)s to \(high.components.seconds)s"
        report(key, "'\(text)' is not allowed; allowed: a whole number with s, m, h or d, \(limits)")
        return nil
    }
}
