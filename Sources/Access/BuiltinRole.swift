package import Domain

/// The roles that every installation has. What they hold is code: no row can widen them.
package enum BuiltinRole: String, Sendable, CaseIterable {
    case platformAdmin
    case partnerAdmin
    case technician
    case organizationAdmin
    case viewer
    case `operator`

    /// What it may do.
    package var permissions: Set<Permission> {
        switch self {
        case .platformAdmin: Permission.all
        case .partnerAdmin: Permission.all.subtracting([.queuesWeigh])
        case .organizationAdmin:
            // Reads too what it sees nothing of, so that it may invite whoever reads.
            Permission.all.subtracting([.queuesWeigh, .partnersWrite, .guardsWrite, .tenantsDelete])
        case .technician:
            Self.reads.union([
                .devicesWrite, .enrollmentTokensRead, .enrollmentTokensWrite, .jobsRun, .jobsCancel,
                .secretsRead,
            ])
        case .viewer: Self.reads
        case .operator: Self.reads.union([.jobsCancel, .queuesWrite])
        }
    }

    private static let reads: Set<Permission> = [
        .partnersRead, .guardsRead, .organizationsRead, .sitesRead, .devicesRead, .jobsRead, .queuesRead,
    ]

    /// Whether it can be given on a level.
    package func fits(_ level: Level) -> Bool {
        switch (self, level) {
        case (.platformAdmin, .platform): true
        case (.platformAdmin, _): false
        case (.partnerAdmin, .partner): true
        case (.partnerAdmin, _): false
        case (.organizationAdmin, .organization): true
        case (.organizationAdmin, _): false
        case (.technician, _), (.viewer, _), (.operator, _): true
        }
    }

    /// Where it can be given, in words.
    package var fitting: String {
        switch self {
        case .platformAdmin: "the platform"
        case .partnerAdmin: "a partner"
        case .organizationAdmin: "an organization"
        case .technician, .viewer, .operator: "any level"
        }
    }
}
