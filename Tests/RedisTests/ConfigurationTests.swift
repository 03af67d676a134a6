import Testing

@testable import Redis

struct ConfigurationTests {
    @Test("A full redis address is read part by part")
    func full() throws {
        let configuration = try RedisConfiguration(url: "redis://rmm:se%40cret@queue.example:6380/3")
        #expect(configuration.addresses == [.tcp(host: "queue.example", port: 6380)])
        #expect(configuration.username == "rmm")
        #expect(configuration.password == "se@cret")
        #expect(configuration.database == 3)
    }

    @Test("An address of sentinels has each of them, the master's name and both logins")
    func sentinels() throws {
        let configuration = try RedisConfiguration(
            url: "redis+sentinel://rmm:pw@a:1,[::1],c/main%20one/2?sentinelUser=s&sentinelPassword=p%26w")
        let places: [RedisConfiguration.Address] = [
            .tcp(host: "a", port: 1), .tcp(host: "::1", port: 26379), .tcp(host: "c", port: 26379),
        ]
        #expect(configuration.addresses == places)
        let sentinel = RedisConfiguration.Sentinel(master: "main one", username: "s", password: "p&w")
        #expect(configuration.deployment == .sentinel(sentinel))
        #expect(configuration.username == "rmm" && configuration.password == "pw")
        #expect(configuration.database == 2 && configuration.tls == nil)
        #expect(!"\(configuration) \(String(reflecting: configuration))".contains("p&w"))
    }

    @Test("Without parameters rediss believes the system's authorities and wants the host's name")
    func secureDefaults() throws {
        #expect(try RedisConfiguration(url: "rediss://host").tls == RedisTLS())
        #expect(try RedisConfiguration(url: "rediss+sentinel://host/m").tls == RedisTLS())
        let named = try RedisConfiguration(url: "rediss://10.0.0.1/?serverName=queue.example")
        #expect(named.tls == RedisTLS(serverName: "queue.example"))
    }

    @Test("What an address leaves out has its default")
    func defaults() throws {
        let configuration = try RedisConfiguration(url: "redis://localhost/")
        #expect(configuration.addresses == [.tcp(host: "localhost", port: 6379)])
        #expect(configuration.username == nil)
        #expect(configuration.password == nil)
        #expect(configuration.database == 0)
    }

    @Test("A cluster is named by some of its nodes")
    func cluster() throws {
        let configuration = try RedisConfiguration(url: "redis+cluster://rmm:pw@a,b:7001,[::1]:7002/")
        #expect(configuration.deployment == .cluster)
        #expect(
            configuration.addresses == [
                .tcp(host: "a", port: 6379), .tcp(host: "b", port: 7001), .tcp(host: "::1", port: 7002),
            ])
        #expect(configuration.username == "rmm" && configuration.password == "pw")
        #expect("\(configuration)" == "the cluster of a:6379,b:7001,[::1]:7002")
        #expect(try RedisConfiguration(url: "rediss+cluster://host").tls == RedisTLS())
    }

    @Test("A password without a user is the default user's")
    func passwordOnly() throws {
        let configuration = try RedisConfiguration(url: "redis://:a:b@[::1]:7000")
        #expect(configuration.addresses == [.tcp(host: "::1", port: 7000)])
        #expect(configuration.username == nil)
        #expect(configuration.password == "a:b")
    }

    @Test("A unix address has a percent-decoded path and credentials")
    func unix() throws {
        let configuration = try RedisConfiguration(url: "unix://worker:pw@/run/my%20redis/r.sock")
        #expect(configuration.addresses == [.unix(path: "/run/my redis/r.sock")])
        #expect(configuration.username == "worker")
        #expect(configuration.password == "pw")
    }

    @Test(
        "A wrong address is refused with the part that is wrong",
        arguments: [
            ("localhost:6379", "scheme"), ("http://host", "“http”"),
            ("redis+other://host", "“redis+other”"),
            ("redis+cluster://", "no host"), ("redis+cluster://a,", "no host"),
            ("redis+cluster://a/1", "only the one with the number 0"), ("redis+cluster://a/x", "database"),
            ("redis+cluster://a?ca=/x", "“ca”"),
            ("redis://", "no host"), ("redis://user@:1", "no host"), ("redis://host:0", "port"),
            ("redis://host:65536", "port"), ("redis://host:", "port"), ("redis://host:+1", "port"),
            ("redis://[::1", "“]”"), ("redis://[::1]x", "port"), ("redis://host/x", "database"),
            ("redis://host/-1", "database"), ("redis://host/1/2", "database"), ("redis://host?db=1", "“db”"),
            ("redis://host?", "“?”"), ("redis://host?ca=/x", "“ca”"), ("unix:///x?ca=/x", "“ca”"),
            ("rediss://host?ca=", "empty ca"), ("rediss://host?ca=a&ca=b", "ca twice"),
            ("rediss://host?ca=%zz", "ca"), ("rediss://host?sentinelUser=x", "“sentinelUser”"),
            ("rediss://host?ca=/nowhere/ca.pem", "its ca that cannot be read: /nowhere/ca.pem"),
            ("rediss://host?ca=/etc/hostname", "ca /etc/hostname"),
            ("rediss://host?certificate=/etc/hostname", "certificate and key"),
            ("rediss://host?key=/etc/hostname", "certificate and key"),
            ("rediss+sentinel://a/m?ca=/nowhere/ca.pem", "its ca that cannot be read: /nowhere/ca.pem"),
            ("rediss+sentinel://a/m?ca=", "empty ca"),
            ("rediss+sentinel://a/m?key=/etc/hostname", "certificate and key"),
            ("rediss+cluster://a,b?ca=/nowhere/ca.pem", "its ca that cannot be read: /nowhere/ca.pem"),
            ("rediss+cluster://a,b?certificate=/etc/hostname", "certificate and key"),
            ("rediss+cluster://a/1", "only the one with the number 0"),
            ("rediss+cluster://a?sentinelUser=x", "“sentinelUser”"),
            ("redis+sentinel://a,/m", "no host"), ("redis+sentinel://a", "no name of a master"),
            ("redis+sentinel://a//0", "no name of a master"), ("redis+sentinel://a:x/m", "port"),
            ("redis+sentinel://a/m/x", "database"), ("redis+sentinel://a/m?ca=/x", "“ca”"),

            ("redis://host#1", "“#”"), ("redis://@host", "empty user"), ("redis://u%zz@host", "user"),
            ("redis://u:%2@host", "password"), ("redis://u:%ff@host", "UTF-8"), ("redis://h%00st", "host"),
            ("unix://host/path", "host"), ("unix://", "no path"), ("unix:///", "no path"),
            ("unix:///" + String(repeating: "x", count: 107), "108 bytes"),
        ])
    func refusals(url: String, part: String) {
        let error = #expect(throws: RedisError.self) { try RedisConfiguration(url: url) }
        #expect(error?.code == .configuration)
        #expect(error?.message.contains(part) == true, "\(error?.message ?? "")")
        #expect(error?.isTransient == false)
    }

    @Test("A socket path of exactly 107 bytes is taken")
    func longestPath() throws {
        #expect(throws: Never.self) {
            try RedisConfiguration(url: "unix:///" + String(repeating: "x", count: 106))
        }
    }

    @Test("No description of a configuration and no refusal shows the password")
    func noSecrets() throws {
        let configuration = try RedisConfiguration(url: "redis://rmm:hunter2@host:1/2")
        #expect(!"\(configuration) \(String(reflecting: configuration))".contains("hunter2"))
        let error = #expect(throws: RedisError.self) {
            try RedisConfiguration(url: "redis://rmm:hunter2@host:x")
        }
        #expect(error?.description.contains("hunter2") == false)
    }
}

struct BackoffTests {
    /// Always the largest number, so that the full jitter is its ceiling.
    private struct Highest: RandomNumberGenerator {
        func next() -> UInt64 { .max }
    }

    @Test("The ceiling doubles from 50 ms to 2 s, and a reset begins anew")
    func doubling() {
        var backoff = Backoff()
        var highest = Highest()
        let waits = (0..<8).map { _ in backoff.next(using: &highest) }
        #expect(waits == [50, 100, 200, 400, 800, 1_600, 2_000, 2_000].map { .milliseconds($0) })
        backoff.reset()
        #expect(backoff.ceiling == .milliseconds(50))
    }
}
