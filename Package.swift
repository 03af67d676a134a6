// swift-tools-version: 6.3
import PackageDescription

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
]

let logging: Target.Dependency = .product(name: "Logging", package: "swift-log")
let deque: Target.Dependency = .product(name: "DequeModule", package: "swift-collections")
let nioCore: Target.Dependency = .product(name: "NIOCore", package: "swift-nio")
let nioPosix: Target.Dependency = .product(name: "NIOPosix", package: "swift-nio")
let nioEmbedded: Target.Dependency = .product(name: "NIOEmbedded", package: "swift-nio")
let nioHTTP: Target.Dependency = .product(name: "NIOHTTP1", package: "swift-nio")
let nioWebSocket: Target.Dependency = .product(name: "NIOWebSocket", package: "swift-nio")

func target(
    _ name: String, _ dependencies: [Target.Dependency] = [], resources: [Resource] = []
) -> Target {
    .target(name: name, dependencies: dependencies, resources: resources, swiftSettings: settings)
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
    ],
    targets: [
        .systemLibrary(name: "CHiredis"),
        .systemLibrary(name: "CPostgres", pkgConfig: "libpq", providers: [.apt(["libpq-dev"])]),
        .systemLibrary(name: "COpenSSL", pkgConfig: "openssl", providers: [.apt(["libssl-dev"])]),
        .systemLibrary(name: "CCurl", pkgConfig: "libcurl", providers: [.apt(["libcurl4-openssl-dev"])]),
        .target(name: "CProcess"),

        target("Domain"),
        target("Wire", ["Domain"]),
        target("Trust", ["Domain", "Wire", "COpenSSL", nioCore]),
        target("Redis", ["CHiredis", logging, deque]),
        target("Postgres", ["CPostgres", logging]),
        target("Outbound", ["CCurl"]),
        target("Process", ["CProcess"]),
        target("Catalog", ["Domain", .product(name: "Yams", package: "Yams")]),
        target(
            "Ledger", ["Domain", "Postgres"],
            resources: [
                .embedInCode("Migrations/V0001_tenancy.sql"), .embedInCode("Migrations/V0002_jobs.sql"),
            ]),
        target("Streams", ["Domain", "Wire", "Redis", logging]),
        target("Engine", ["Domain", "Wire", "Catalog", "Streams", "Redis", "Ledger", "Postgres", "Trust", logging]),
        target(
            "Gateway",
            [
                "Domain", "Wire", "Streams", "Redis", "Ledger", "Postgres", "Engine", "Trust", logging, nioCore, nioPosix,
                nioHTTP, nioWebSocket,
            ]),
        target("Embedded", ["Process", logging]),

        tests("DomainTests", ["Domain"]),
        tests("WireTests", ["Wire", "Domain"]),
        tests("RedisTests", ["Redis", logging]),
    ]
)
