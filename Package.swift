// swift-tools-version: 6.3
import PackageDescription

/// The library that looks for inputs which break a parser, where `Scripts/fuzz` builds; else nothing is
/// built for it.
let fuzzer = Context.environment["CLOUDRMM_FUZZER"]

/// The one set of settings that every target of this package builds with.
let settings: [SwiftSetting] = [
    .enableUpcomingFeature("ExistentialAny"),
    .enableUpcomingFeature("InternalImportsByDefault"),
    .enableUpcomingFeature("MemberImportVisibility"),
    .enableUpcomingFeature("InferIsolatedConformances"),
    .enableUpcomingFeature("NonisolatedNonsendingByDefault"),
    .enableUpcomingFeature("ImmutableWeakCaptures"),
    .strictMemorySafety(),
    .treatAllWarnings(as: .error),
    // Small generic functions (ids, fields, columns) are specialized where another module calls them.
    .unsafeFlags(["-cross-module-optimization"], .when(configuration: .release)),
    .unsafeFlags(fuzzer == nil ? [] : ["-sanitize=fuzzer"]),
]

let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let deque: Target.Dependency = .product(name: "DequeModule", package: "swift-collections")
let nioCore: Target.Dependency = .product(name: "NIOCore", package: "swift-nio")
let nioPosix: Target.Dependency = .product(name: "NIOPosix", package: "swift-nio")
let nioEmbedded: Target.Dependency = .product(name: "NIOEmbedded", package: "swift-nio")
let nioHTTP: Target.Dependency = .product(name: "NIOHTTP1", package: "swift-nio")
let nioWebSocket: Target.Dependency = .product(name: "NIOWebSocket", package: "swift-nio")

let hummingbird: Target.Dependency = .product(name: "Hummingbird", package: "hummingbird")
let hummingbirdCore: Target.Dependency = .product(name: "HummingbirdCore", package: "hummingbird")
let httpTypes: Target.Dependency = .product(name: "HTTPTypes", package: "swift-http-types")
let lifecycle: Target.Dependency = .product(name: "ServiceLifecycle", package: "swift-service-lifecycle")
let configuration: Target.Dependency = .product(name: "Configuration", package: "swift-configuration")
let arguments: Target.Dependency = .product(name: "ArgumentParser", package: "swift-argument-parser")

/// For the simulation and what it calls all the time: it plays thousands of worlds in a test run.
let optimized = settings + [.unsafeFlags(["-O"], .when(configuration: .debug))]

/// For what reads the bytes of strangers: a fuzzer calls it all the time.
let parsing = fuzzer == nil ? settings : optimized

func target(
    _ name: String, _ dependencies: [Target.Dependency] = [], path: String? = nil,
    resources: [Resource] = [], swiftSettings: [SwiftSetting] = settings
) -> Target {
    .target(
        name: name, dependencies: dependencies, path: path, resources: resources,
        swiftSettings: swiftSettings)
}

func executable(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .executableTarget(name: name, dependencies: dependencies, swiftSettings: settings)
}

func tests(_ name: String, _ dependencies: [Target.Dependency]) -> Target {
    .testTarget(name: name, dependencies: dependencies, swiftSettings: settings)
}

let package = Package(
    name: "cloudrmm",
    dependencies: [
        .package(url: "https://github.com/apple/swift-nio", from: "2.101.0"),
        .package(url: "https://github.com/apple/swift-log", from: "1.16.0"),
        .package(url: "https://github.com/apple/swift-collections", from: "1.6.0"),
        .package(url: "https://github.com/jpsim/Yams", from: "6.2.2"),
        .package(url: "https://github.com/hummingbird-project/hummingbird", from: "2.28.0", traits: []),
        .package(url: "https://github.com/swift-server/swift-service-lifecycle", from: "2.13.0"),
        .package(url: "https://github.com/apple/swift-argument-parser", from: "1.8.0"),
        .package(url: "https://github.com/apple/swift-configuration.git", from: "1.4.0", traits: []),
        .package(url: "https://github.com/apple/swift-http-types", from: "1.8.0"),
    ],
    targets: [
        .systemLibrary(name: "CHiredis"),
        .systemLibrary(name: "CPostgres", pkgConfig: "libpq", providers: [.apt(["libpq-dev"])]),
        .systemLibrary(name: "COpenSSL", pkgConfig: "openssl", providers: [.apt(["libssl-dev"])]),
        .systemLibrary(name: "CCurl", pkgConfig: "libcurl", providers: [.apt(["libcurl4-openssl-dev"])]),
        .systemLibrary(name: "CSodium", pkgConfig: "libsodium", providers: [.apt(["libsodium-dev"])]),
        .systemLibrary(name: "CZlib", pkgConfig: "zlib", providers: [.apt(["zlib1g-dev"])]),
        .target(name: "CProcess"),

        target("Faults"),
        target("Domain", swiftSettings: optimized),
        target("Wire", ["Domain"], swiftSettings: parsing),
        target("Trust", ["Domain", "Wire", "COpenSSL", nioCore], swiftSettings: parsing),
        target("Signing", ["CSodium", "Trust"]),
        target("Redis", ["CHiredis", "Trust", logging, deque], swiftSettings: optimized),
        target("Postgres", ["CPostgres", "Faults", logging]),
        target("Outbound", ["CCurl", "CZlib"]),
        target("Process", ["CProcess"]),
        target("Catalog", ["Domain", .product(name: "Yams", package: "Yams")]),
        target(
            "Ledger", ["Domain", "Postgres"],
            resources: [
                .embedInCode("Migrations/V0001_tenancy.sql"), .embedInCode("Migrations/V0002_jobs.sql"),
                .embedInCode("Migrations/V0003_priorities.sql"),
                .embedInCode("Migrations/V0004_retries.sql"),
                .embedInCode("Migrations/V0005_controls.sql"),
                .embedInCode("Migrations/V0006_limits.sql"),
                .embedInCode("Migrations/V0007_submission.sql"),
                .embedInCode("Migrations/V0008_traces.sql"),
                .embedInCode("Migrations/V0009_quotas.sql"),
                .embedInCode("Migrations/V0010_tasks.sql"),
                .embedInCode("Migrations/V0011_usage_checks.sql"),
                .embedInCode("Migrations/V0012_folds.sql"),
                .embedInCode("Migrations/V0013_suspects.sql"),
                .embedInCode("Migrations/V0014_editing.sql"),
                .embedInCode("Migrations/V0015_principals.sql"),
                .embedInCode("Migrations/V0016_audit.sql"),
                .embedInCode("Migrations/V0017_sessions.sql"),
                .embedInCode("Migrations/V0019_webhooks.sql"),
                .embedInCode("Migrations/V0021_lifecycle.sql"),
                .embedInCode("Migrations/V0022_oidc.sql"),
                .embedInCode("Migrations/V0023_secrets.sql"),
                .embedInCode("Migrations/V0024_guards.sql"),
                .embedInCode("Migrations/V0025_erasing.sql"),
                .embedInCode("Migrations/V0026_sealed_erasures.sql"),
                .embedInCode("Migrations/V0027_waiting.sql"),
                .embedInCode("Migrations/V0028_enrollment_tokens.sql"),
                .embedInCode("Migrations/V0029_revocation.sql"),
                .embedInCode("Migrations/V0030_presence.sql"),
                .embedInCode("Migrations/V0031_key_sets.sql"),
                .embedInCode("Migrations/V0032_renewal.sql"),
            ]),
        target("Streams", ["Domain", "Wire", "Redis", logging], swiftSettings: optimized),
        target(
            "Engine",
            [
                "Domain", "Wire", "Catalog", "Streams", "Redis", "Ledger", "Postgres", "Trust", "Signing",
                "Outbound", "Faults", logging,
            ]),
        target(
            "Gateway",
            [
                "Domain", "Wire", "Streams", "Redis", "Ledger", "Postgres", "Engine", "Trust", "Faults",
                logging, nioCore, nioPosix, nioHTTP, nioWebSocket,
            ]),
        target("Embedded", ["Process", logging]),
        target("Access", ["Domain", "Ledger", "Outbound", "Postgres", "Trust", logging]),
        target(
            "API",
            [
                "Domain", "Wire", "Trust", "Postgres", "Redis", "Streams", "Ledger", "Access", "Engine",
                "Outbound", hummingbird, hummingbirdCore, httpTypes, lifecycle, logging, nioCore,
            ],
            resources: [
                .embedInCode("Pages/docs.html"), .embedInCode("Pages/docs.css"),
                .embedInCode("Pages/docs.js"), .embedInCode("Pages/docs_missing.html"),
            ]),
        target("Client", ["Domain", "Wire", "Outbound"]),
        target(
            "Agent",
            [
                "Domain", "Wire", "Trust", "Process", "Faults", logging, nioCore, nioPosix, nioHTTP,
                nioWebSocket,
            ]),
        executable(
            "cloudrmm",
            [
                "API", "Access", "Catalog", "Client", "Domain", "Embedded", "Engine", "Faults", "Gateway",
                "Ledger", "Postgres",
                "Outbound", "Process", "Redis", "Streams", "Trust", "Wire", arguments, configuration,
                lifecycle, logging,
                .product(name: "UnixSignals", package: "swift-service-lifecycle"),
            ]),
        executable(
            "cloudrmm-agent",
            ["Agent", "Domain", "Faults", "Process", "Trust", "Wire", logging, nioCore, nioPosix]),
        executable(
            "cloudrmm-load",
            [
                "Agent", "Client", "Domain", "Outbound", "Process", "Trust", "Wire", arguments, logging,
                nioCore,
                nioPosix,
            ]),

        tests("FaultsTests", ["Faults"]),
        tests("DomainTests", ["Domain"]),
        tests("WireTests", ["Wire", "Domain"]),
        tests("TrustTests", ["Trust", "Domain", "Wire", nioCore, nioPosix, nioEmbedded]),
        tests("SigningTests", ["Signing", "Trust"]),
        tests("RedisTests", ["Redis", "TestSupport", "Trust", logging]),
        tests("PostgresTests", ["Postgres", "Trust", logging]),
        tests("OutboundTests", ["Outbound"]),
        tests("ProcessTests", ["Process"]),
        .executableTarget(
            name: "EmbeddedProbe", dependencies: ["Embedded", "Process", logging],
            path: "Tests/EmbeddedProbe",
            swiftSettings: settings),
        .executableTarget(
            name: "QueueBench",
            dependencies: [
                "Domain", "Engine", "Ledger", "Postgres", "Redis", "Streams", "Trust", "Wire", logging,
            ],
            path: "Tests/QueueBench",
            swiftSettings: settings),
        tests("EmbeddedTests", ["Embedded", "Process", "EmbeddedProbe", logging]),
        tests("CatalogTests", ["Catalog"]),
        target(
            "TestSupport",
            [
                "Domain", "Engine", "Ledger", "Postgres", "Process", "Redis", "Streams", "Trust", "Wire",
                logging,
            ],
            path: "Tests/Support"),
        tests(
            "AccessTests",
            [
                "Access", "Domain", "Ledger", "Outbound", "Postgres", "TestSupport", "Trust", "Wire", logging,
            ]),
        tests(
            "APITests",
            [
                "API", "Access", "Client", "Domain", "Engine", "Ledger", "Outbound", "Postgres", "Redis",
                "Streams", "TestSupport", "Trust", "Wire", lifecycle, logging, nioCore, nioEmbedded,
            ]),
        tests("ClientTests", ["Client", "Domain", "Wire", "Outbound"]),
        tests(
            "AgentTests",
            [
                "Agent", "Domain", "Process", "Trust", "Wire", logging, nioCore, nioPosix, nioHTTP,
                nioWebSocket,
            ]),
        tests(
            "GatewayTests",
            [
                "Gateway", "Engine", "Ledger", "Domain", "Postgres", "Redis", "Streams", "TestSupport",
                "Trust", "Wire", logging, nioCore, nioPosix, nioEmbedded, nioHTTP, nioWebSocket,
            ]),
        tests("LedgerTests", ["Ledger", "Domain", "Postgres", "TestSupport", "Trust", logging]),
        tests(
            "EngineTests",
            [
                "Engine", "Ledger", "Domain", "Outbound", "Postgres", "Redis", "Streams", "TestSupport",
                "Trust", "Wire", "Process", logging,
            ]),
        tests(
            "cloudrmmTests",
            [
                "cloudrmm", "Domain", "Engine", "Process", "Trust", "Wire", arguments, logging,
            ]),
        target("History", path: "Tests/History"),
        .executableTarget(
            name: "HistoryCheck", dependencies: ["History"], path: "Tests/HistoryCheck",
            swiftSettings: settings),
        tests("HistoryTests", ["History"]),
        tests(
            "EndToEndTests",
            ["Client", "Domain", "Faults", "History", "Outbound", "Process", "TestSupport", "Wire"]),
        tests("ScriptTests", ["Process"]),
        tests("StreamsTests", ["Streams", "Redis", "Domain", "TestSupport", logging]),
        .testTarget(
            name: "SimulationTests", dependencies: ["Streams", "Redis", "Domain", logging],
            swiftSettings: optimized),
    ]
)

if let fuzzer {
    package.targets += [
        .systemLibrary(name: "CFuzzer", path: "Tests/CFuzzer"),
        .executableTarget(
            name: "Fuzz",
            dependencies: ["API", "Access", "CFuzzer", "Domain", "Trust", "Wire", httpTypes],
            path: "Tests/Fuzz", exclude: ["Corpus"], swiftSettings: settings,
            linkerSettings: [.unsafeFlags([fuzzer]), .linkedLibrary("stdc++")]),
    ]
}
