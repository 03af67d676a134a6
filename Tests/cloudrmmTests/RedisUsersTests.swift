import Testing

@testable import cloudrmm

struct RedisUsersTests {
    @Test("The file of users holds hashes alone, the settings lead each role to its own login")
    func make() {
        var number = 0
        let (file, settings) = RedisUsers.make(
            server: "rediss://queue.example:6380/1?ca=/x", replication: false
        ) {
            number += 1
            return "secret\(number)"
        }
        #expect(file.hasPrefix("user default off resetpass resetkeys resetchannels -@all\n"))
        #expect(!file.contains("secret"))
        // The SHA-256 of "secret1".
        let hash = "5b11618c2e44027877d0cd0921ed166b9f176f50587fc91e7534dd2946db77d6"
        #expect(file.contains("user crmm-api on #\(hash) resetchannels ~crmm:{* "))
        #expect(file.split(separator: "\n").count == 5)
        #expect(
            settings == [
                "# the role api", "REDIS_URL=rediss://crmm-api:secret1@queue.example:6380/1?ca=/x",
                "# the role gateway", "REDIS_URL=rediss://crmm-gateway:secret2@queue.example:6380/1?ca=/x",
                "# the role worker", "REDIS_URL=rediss://crmm-worker:secret3@queue.example:6380/1?ca=/x",
                "# every role",
                "CLOUDRMM_REDIS_LOADER_URL=rediss://crmm-loader:secret4@queue.example:6380/1?ca=/x",
            ])
    }

    @Test("Replicas and sentinels get logins where they are asked for, with the lines of their files")
    func replication() {
        var number = 0
        let (file, settings) = RedisUsers.make(server: "redis://queue.example:6379/", replication: true) {
            number += 1
            return "secret\(number)"
        }
        #expect(!file.contains("secret"))
        let users = file.split(separator: "\n").map { $0.split(separator: " ")[1] }
        #expect(users.suffix(2) == ["crmm-replica", "crmm-sentinel"])
        #expect(users.count == 7)
        #expect(
            settings.suffix(6) == [
                "# redis.conf of every server; each also reads the file of users as its 'aclfile'",
                "masteruser crmm-replica", "masterauth secret5",
                "# sentinel.conf; MASTER is the name in 'sentinel monitor'",
                "sentinel auth-user MASTER crmm-sentinel", "sentinel auth-pass MASTER secret6",
            ])
    }
}
