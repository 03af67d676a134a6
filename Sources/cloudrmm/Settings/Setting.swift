import Configuration

/// One variable of `.env.example` that `cloudrmm` reads, by its name.
enum Setting: String, CaseIterable {
    case databaseURL = "DATABASE_URL"
    case workerDatabaseURL = "CLOUDRMM_WORKER_DATABASE_URL"
    case gatewayDatabaseURL = "CLOUDRMM_GATEWAY_DATABASE_URL"
    case ownerDatabaseURL = "CLOUDRMM_OWNER_DATABASE_URL"
    case redisURL = "REDIS_URL"
    case redisLoaderURL = "CLOUDRMM_REDIS_LOADER_URL"
    case redisPartitions = "CLOUDRMM_REDIS_PARTITIONS"
    case roles = "CLOUDRMM_ROLES"
    case keysDir = "CLOUDRMM_KEYS_DIR"
    case host = "CLOUDRMM_HOST"
    case apiPort = "CLOUDRMM_API_PORT"
    case gatewayPort = "CLOUDRMM_GATEWAY_PORT"
    case operationsPort = "CLOUDRMM_OPERATIONS_PORT"
    case logLevel = "CLOUDRMM_LOG_LEVEL"
    case agentGatewayURL = "AGENT_GATEWAY_URL"
    case retentionConcurrency = "CLOUDRMM_WORKERS_RETENTION_CONCURRENCY"
    case retentionDays = "CLOUDRMM_RETENTION_DAYS"
    case webhookAllowPrivate = "CLOUDRMM_WEBHOOK_ALLOW_PRIVATE"
    case docsDir = "CLOUDRMM_DOCS_DIR"
    case corsOrigins = "CLOUDRMM_CORS_ORIGINS"
    case rateLimitPrincipal = "CLOUDRMM_RATE_LIMIT_PRINCIPAL"
    case rateLimitTenant = "CLOUDRMM_RATE_LIMIT_TENANT"
    case clerkSecretKey = "CLERK_SECRET_KEY"
    case oidcTrustedIssuers = "CLOUDRMM_OIDC_TRUSTED_ISSUERS"
    case oidcCA = "CLOUDRMM_OIDC_CA"
    case apiURL = "API_URL"
    case apiKey = "CLOUDRMM_API_KEY"
    case ca = "CLOUDRMM_CA"

    /// Whether its value is shown to nobody: in no message, and redacted by the package's own reports.
    var isSecret: Bool {
        switch self {
        case .databaseURL, .workerDatabaseURL, .gatewayDatabaseURL, .ownerDatabaseURL, .redisURL,
            .redisLoaderURL, .clerkSecretKey, .apiKey:
            true
        case .redisPartitions, .roles, .keysDir, .host, .apiPort, .gatewayPort, .operationsPort, .logLevel,
            .agentGatewayURL, .apiURL, .ca, .retentionConcurrency, .retentionDays,
            .webhookAllowPrivate, .docsDir, .corsOrigins, .rateLimitPrincipal, .rateLimitTenant,
            .oidcTrustedIssuers, .oidcCA:
            false
        }
    }

    var key: ConfigKey { ConfigKey(rawValue.lowercased().split(separator: "_").map(String.init)) }

    /// Variables that a file may have too, for other programs and other releases, or that only the
    /// environment says: `.env.example` as it is can be a file.
    static let ofOthers: Set<String> = [
        "CLOUDRMM_TOKEN", "CLOUDRMM_BINARIES", "CLOUDRMM_CONFIG",
    ]
}
