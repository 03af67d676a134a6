import Foundation
import Glibc
import Trust

@testable import Postgres

/// A PostgreSQL server of the tests' own that speaks TLS on a port of the loopback, and files for its
/// clients.
///
/// Its certificate carries the name `db.test`. The login `tester` has a password and must use TLS,
/// `certified` must show a certificate of the authority, `open` comes in clear.
final class SecureServer {
    static let password = "hunter2"

    private let directory: String
    private let port: Int
    private let server = Process()

    init() async throws {
        let fallback = "/usr/lib/postgresql"
        let versions = try FileManager.default.contentsOfDirectory(atPath: fallback).sorted()
        guard let version = versions.last else { throw Missing() }
        let programs = "\(fallback)/\(version)/bin"
        directory = "/tmp/crmm-pg-\(UInt32.random(in: 0 ... .max))"
        port = Self.freePort()
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: false)
        try giveAway(directory)
        let tool = try Self.process(
            "\(programs)/initdb",
            [
                "-D", "\(directory)/data", "-U", "admin", "--auth=trust", "-E", "UTF8", "--locale=C.UTF-8",
                "-N",
            ])
        try tool.run()
        tool.waitUntilExit()
        guard tool.terminationStatus == 0 else { throw Missing() }
        try writeFiles()
        let arguments = [
            "-D", "\(directory)/data", "-k", directory, "-p", "\(port)", "-c", "listen_addresses=127.0.0.1",
            "-c", "ssl=on", "-c", "ssl_cert_file=\(directory)/server.pem", "-c",
            "ssl_key_file=\(directory)/server.key", "-c", "ssl_ca_file=\(directory)/ca.pem", "-c",
            "fsync=off",
            "-c", "hba_file=\(directory)/hba.conf",
        ]
        let (executable, words) = Self.asServerUser("\(programs)/postgres", arguments)
        (server.executableURL, server.arguments) = (URL(filePath: executable), words)
        (server.standardOutput, server.standardError) = (FileHandle.nullDevice, FileHandle.nullDevice)
        try server.run()
        try await makeLogins()
    }

    deinit {
        kill(server.processIdentifier, SIGQUIT)
        server.waitUntilExit()
        try? FileManager.default.removeItem(atPath: directory)  // what is left does no harm
    }

    /// Nothing by itself: the server ends with the last reference, and this is one at the end of a test.
    func stop() {}

    func path(_ name: String) -> String { "\(directory)/\(name)" }

    /// A configuration that reaches the server over the loopback as a host of this name.
    func configuration(
        _ user: String, host: String = "db.test", _ parameters: String...
    ) throws -> PostgresConfiguration {
        let rest = ["hostaddr=127.0.0.1"] + parameters
        var configuration = try PostgresConfiguration(
            url: "postgresql://\(user)@\(host):\(port)/postgres?\(rest.joined(separator: "&"))")
        (configuration.connections, configuration.transactionConnections) = (1, 1)
        configuration.statementTimeout = .seconds(3)
        return configuration
    }

    private func makeLogins() async throws {
        var configuration = try PostgresConfiguration(
            url: "postgresql://admin@/postgres?host=\(directory)&port=\(port)")
        configuration.connections = 1
        try await TestServer.withPool(configuration) { pool, _ in
            try await pool.pipeline(
                scope: .none,
                [
                    "CREATE ROLE tester LOGIN PASSWORD 'hunter2'", "CREATE ROLE certified LOGIN",
                    "CREATE ROLE open LOGIN",
                ])
        }
    }

    private func writeFiles() throws {
        let authority = try CertificateAuthority.make(commonName: "Databases", validitySeconds: 86_400)
        let stranger = try CertificateAuthority.make(commonName: "Others", validitySeconds: 86_400)
        let key = P256Key()
        let certificate = try authority.issueServer(
            for: key, dnsNames: ["db.test"], ipAddresses: [], validitySeconds: 86_400)
        try write("server.pem", certificate.pem)
        try write("server.key", key.pem)
        try write("ca.pem", authority.certificate.pem)
        try write("stranger.pem", stranger.certificate.pem)
        let own = P256Key()
        let request = try CertificateRequest(pem: own.certificateRequest(commonName: "any"))
        let client = try authority.issueDevice(request: request, deviceURI: "cloudrmm://d/device/o/certified")
        try write("client.pem", client.pem)
        try write("client.key", own.pem)
        // libpq wants a key that is its user's or root's own.
        try FileManager.default.setAttributes(
            [.ownerAccountID: getuid(), .groupOwnerAccountID: getgid()], ofItemAtPath: path("client.key"))
        try write(
            "hba.conf",
            """
            local all all trust
            hostssl all certified 127.0.0.1/32 cert
            hostssl all tester 127.0.0.1/32 scram-sha-256
            hostnossl all open 127.0.0.1/32 trust

            """)
    }

    private func write(_ name: String, _ text: String) throws {
        try Data(text.utf8).write(to: URL(filePath: path(name)))
        try FileManager.default.setAttributes([.posixPermissions: 0o600], ofItemAtPath: path(name))
        try giveAway(path(name))
    }

    /// PostgreSQL does not run as root; root gives it what it is to own.
    private func giveAway(_ path: String) throws {
        guard getuid() == 0 else { return }
        try FileManager.default.setAttributes([.ownerAccountName: "postgres"], ofItemAtPath: path)
    }

    private static func asServerUser(_ program: String, _ arguments: [String]) -> (String, [String]) {
        guard getuid() == 0 else { return (program, arguments) }
        let user = ["--reuid=postgres", "--regid=postgres", "--init-groups", program]
        return ("/usr/bin/setpriv", user + arguments)
    }

    private static func process(_ program: String, _ arguments: [String]) throws -> Process {
        let process = Process()
        let (executable, words) = asServerUser(program, arguments)
        (process.executableURL, process.arguments) = (URL(filePath: executable), words)
        (process.standardOutput, process.standardError) = (FileHandle.nullDevice, FileHandle.nullDevice)
        process.currentDirectoryURL = URL(filePath: "/")
        return process
    }

    private static func freePort() -> Int {
        let descriptor = socket(AF_INET, Int32(SOCK_STREAM.rawValue | SOCK_CLOEXEC.rawValue), 0)
        defer { close(descriptor) }
        var address = sockaddr_in()
        address.sin_family = sa_family_t(AF_INET)
        address.sin_addr.s_addr = UInt32(0x7F00_0001).bigEndian
        var length = socklen_t(MemoryLayout<sockaddr_in>.size)
        unsafe withUnsafeMutableBytes(of: &address) { raw in
            let pointer = unsafe raw.baseAddress!.assumingMemoryBound(to: sockaddr.self)
            _ = unsafe bind(descriptor, pointer, length)
            _ = unsafe getsockname(descriptor, pointer, &length)
        }
        return Int(UInt16(bigEndian: address.sin_port))
    }
}
