/// What a set of devices is watched for and which jobs run on them by themselves.
///
/// It is the content of `Policies/<name>.yaml`; `Documentation.docc/Catalog.md` shows the format.
package struct Policy: Sendable {
    /// Whose devices the policy applies to: a device has to match every list that is not empty.
    package struct Assignment: Sendable, Equatable {
        /// Names of organizations; empty means every one that the policy's owner may see.
        package let organizations: [String]
        /// Names of sites; empty means every site.
        package let sites: [String]
        /// Tags of which a device has to have all; empty means any device.
        package let tags: [String]
    }

    /// When a schedule fires.
    package enum Trigger: Sendable, Equatable {
        /// At the times of a five-field cron expression.
        case cron(String)
        /// Again and again after this time.
        case every(Duration)
    }

    /// A job that is submitted again and again.
    package struct Schedule: Sendable {
        /// Unique in the policy.
        package let name: String
        /// The name of a definition.
        package let job: String
        /// When it fires.
        package let trigger: Trigger
        /// The IANA time zone in which a cron expression is read.
        package let timezone: String
        /// Values for the definition's parameters.
        package let parameters: [String: String]
    }

    /// What a check looks at.
    package enum Probe: Sendable, Equatable {
        /// Used percent of the file system that holds the path.
        case disk(path: String, thresholds: Thresholds)
        /// Used percent of the memory, caches not counted.
        case memory(thresholds: Thresholds)
        /// Whether a service of the init system runs.
        case service(String)
        /// A definition whose run fails the check unless it succeeds.
        case script(job: String, parameters: [String: String])
    }

    /// Percentages from which on a measured value is a warning or critical; the first is below the second.
    package struct Thresholds: Sendable, Equatable {
        /// From here on it is a warning.
        package let warningPercent: Int
        /// From here on it is critical.
        package let criticalPercent: Int
    }

    /// Something that is looked at in intervals.
    package struct Check: Sendable {
        /// Unique in the policy.
        package let name: String
        /// How often.
        package let interval: Duration
        /// What.
        package let probe: Probe
    }

    /// The result of a check that an alert rule waits for.
    package enum Condition: String, Sendable, CaseIterable {
        /// The warning threshold or worse.
        case warning
        /// The critical threshold.
        case critical
        /// A service that does not run or a script that did not succeed.
        case failed
    }

    /// How much an alert matters.
    package enum Severity: String, Sendable, CaseIterable {
        case info, warning, critical
    }

    /// When a check's result raises an alert.
    package struct AlertRule: Sendable {
        /// Unique in the policy.
        package let name: String
        /// The name of a check of this policy.
        package let check: String
        /// The result that counts.
        package let condition: Condition
        /// How long it has to last; zero raises at the first result.
        package let lasting: Duration
        /// How much it matters.
        package let severity: Severity
        /// What those who are told read; nil means a sentence from the check.
        package let message: String?
    }

    /// The file's name without its ending.
    package let name: String
    /// One line for lists.
    package let summary: String
    /// Whose devices.
    package let assignment: Assignment
    /// Jobs that run by themselves.
    package let schedules: [Schedule]
    /// What is watched.
    package let checks: [Check]
    /// When somebody is told.
    package let alertRules: [AlertRule]
}
