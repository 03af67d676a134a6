import Testing

@testable import Postgres

/// The modes of TLS that an address may ask for, against a server that has it.
struct SecureConnectionTests {
    /// Whether the connection of a new pool is under TLS.
    private func isEncrypted(_ configuration: PostgresConfiguration) async throws -> Bool {
        var answer = false
        try await TestServer.withPool(configuration) { pool, _ in
            answer = try await pool.query(
                "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()", scope: .none
            ) { try $0.decode(Bool.self) }[0]
        }
        return answer
    }

    /// The message of a request that finds no connection within its time; it shows no password.
    private func refusal(_ configuration: PostgresConfiguration) async throws -> String {
        var configuration = configuration
        configuration.statementTimeout = .milliseconds(700)
        while true {
            let failed = try await error { _ = try await isEncrypted(configuration) }
            #expect(failed.code == .timeout && !failed.mayHaveCommitted)
            #expect(!"\(failed)".contains(SecureServer.password))
            // On a busy machine the time may be over before the first attempt to connect is.
            if failed.message.contains("there is no connection") { return failed.message }
        }
    }

    @Test("Each mode of TLS does what libpq's manual says, with the right and the wrong authority and name")
    func modes() async throws {
        let server = try await SecureServer()
        defer { server.stop() }
        let (ca, strange) = (
            "sslrootcert=\(server.path("ca.pem"))", "sslrootcert=\(server.path("stranger.pem"))"
        )
        let tester = "tester:\(SecureServer.password)"
        let verified = try server.configuration(tester, "sslmode=verify-full", ca)
        let named = try server.configuration(tester, host: "other.test", "sslmode=verify-ca", ca)
        let unverified = try server.configuration(tester, "sslmode=require")
        for configuration in [verified, named, unverified] {
            #expect(try await isEncrypted(configuration))
        }
        let open = try server.configuration("open", "sslmode=disable")
        #expect(try await isEncrypted(open) == false)

        let name = try await refusal(
            server.configuration(tester, host: "other.test", "sslmode=verify-full", ca))
        #expect(name.contains("other.test"), "\(name)")
        for mode in ["verify-full", "verify-ca"] {
            let issuer = try await refusal(server.configuration(tester, "sslmode=\(mode)", strange))
            #expect(issuer.contains("certificate verify failed"), "\(issuer)")
        }
        let clear = try await refusal(server.configuration(tester, "sslmode=disable"))
        #expect(clear.contains("no encryption"), "\(clear)")
        let password = try await refusal(server.configuration("tester:wrong", "sslmode=require"))
        #expect(password.contains("password authentication failed"), "\(password)")
        #expect(!password.contains("wrong"))

        let shown = ["sslcert=\(server.path("client.pem"))", "sslkey=\(server.path("client.key"))"]
        let certified = try server.configuration("certified", "sslmode=verify-full", ca, shown[0], shown[1])
        #expect(try await isEncrypted(certified))
        let missing = try await refusal(server.configuration("certified", "sslmode=verify-full", ca))
        #expect(missing.contains("certificate"), "\(missing)")
    }

    @Test(
        "A mode that there is not, and a file that cannot be read, are refused by name",
        arguments: [
            ("sslmode=on", "sslmode"), ("sslrootcert=/nowhere/ca.pem", "sslrootcert"),
            ("sslcert=/nowhere/c.pem", "sslcert"), ("sslkey=/nowhere/c.key", "sslkey"),
            ("sslcrl=/nowhere/crl.pem", "sslcrl"),
        ])
    func refusals(parameter: String, name: String) throws {
        let refused = #expect(throws: PostgresError.self) {
            try PostgresConfiguration(url: "postgresql://a:hunter2@localhost/x?\(parameter)")
        }
        #expect(refused?.code == .configuration && refused?.message.contains(name) == true)
        #expect(refused?.message.contains("hunter2") == false)
    }
}
