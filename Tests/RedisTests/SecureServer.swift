import Foundation
import Glibc
import Trust

@testable import Redis

/// A Redis server of the test's own that speaks TLS on a port of the loopback, and files for its clients.
final class SecureServer {
    /// The authority that issued the server's certificate, and another one.
    let authority: CertificateAuthority
    let stranger: CertificateAuthority
    let port: Int
    private let scratch: ScratchFiles
    private let server: PrivateServer

    /// A server whose certificate carries these names; with `asksCertificate` it wants one of its authority.
    init(
        names: [String] = ["localhost"], addresses: [String] = ["127.0.0.1"], asksCertificate: Bool = false,
        selfSigned: (certificate: String, key: String)? = nil, arguments: [String] = []
    ) throws {
        authority = try .make(commonName: "Redis servers", validitySeconds: 86_400)
        stranger = try .make(commonName: "Others", validitySeconds: 86_400)
        scratch = try ScratchFiles()
        port = freePort()
        let key = P256Key()
        let certificate = try authority.issueServer(
            for: key, dnsNames: names, ipAddresses: addresses, validitySeconds: 86_400)
        server = try PrivateServer(
            arguments: [
                "--tls-port", "\(port)", "--bind", "127.0.0.1",
                "--tls-cert-file",
                try scratch.write("server.pem", selfSigned?.certificate ?? certificate.pem),
                "--tls-key-file", try scratch.write("server.key", selfSigned?.key ?? key.pem),
                "--tls-ca-cert-file", try scratch.write("ca.pem", authority.certificate.pem),
                "--tls-auth-clients", asksCertificate ? "yes" : "no",
            ] + arguments)
        _ = try scratch.write("stranger.pem", stranger.certificate.pem)
    }

    /// What another server is started with to show the same certificate, and one of a client to its like; it
    /// asks clients for none. Nodes of a cluster ask each other all the same.
    func arguments() throws -> [String] {
        let client = try makeClient(of: authority)
        return [
            "--tls-cert-file", path("server.pem"), "--tls-key-file", path("server.key"), "--tls-ca-cert-file",
            path("ca.pem"), "--tls-auth-clients", "no", "--tls-client-cert-file", client.certificate,
            "--tls-client-key-file", client.key,
        ]
    }

    /// Nothing by itself: the server ends with the last reference, and this is one at the end of a test.
    func stop() { server.stop() }

    /// The path of a file: `ca.pem`, `stranger.pem`, and what was written.
    func path(_ name: String) -> String { scratch.path(name) }

    func write(_ name: String, _ text: String) throws -> String { try scratch.write(name, text) }

    /// Makes a client's certificate and key, and returns them as parameters of an address.
    func clientParameters(of authority: CertificateAuthority) throws -> String {
        let client = try makeClient(of: authority)
        return "certificate=\(client.certificate)&key=\(client.key)"
    }

    private func makeClient(of authority: CertificateAuthority) throws -> (certificate: String, key: String) {
        let key = P256Key()
        let request = try CertificateRequest(pem: key.certificateRequest(commonName: "client"))
        let certificate = try authority.issueDevice(request: request, deviceURI: "cloudrmm://d0/device/o1/a1")
        let name = "client-\(UInt32.random(in: 0 ... .max))"
        return try (write("\(name).pem", certificate.pem), write("\(name).key", key.pem))
    }

    /// An address of the server; `ca.pem` is believed unless the parameters say otherwise.
    func url(_ parameters: String? = nil, user: String = "", path: String = "/") -> String {
        "rediss://\(user.isEmpty ? "" : "\(user)@")127.0.0.1:\(port)\(path)?"
            + (parameters ?? "ca=\(self.path("ca.pem"))")
    }

    func connection(_ parameters: String? = nil, user: String = "", path: String = "/") throws
        -> RedisConnection
    {
        let configuration = try RedisConfiguration(url: url(parameters, user: user, path: path))
        return RedisConnection(configuration: configuration, logger: .quiet)
    }
}

/// Files in a directory that goes with the last reference.
final class ScratchFiles {
    let directory: String

    init() throws {
        directory = "/tmp/cloudrmm-files-\(getpid())-\(UInt32.random(in: 0 ... .max))"
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: false)
    }

    deinit {
        try? FileManager.default.removeItem(atPath: directory)  // what is left of a test does no harm
    }

    func path(_ name: String) -> String { "\(directory)/\(name)" }

    func write(_ name: String, _ text: String) throws -> String {
        try Data(text.utf8).write(to: URL(filePath: path(name)))
        return path(name)
    }
}

/// A port of the loopback that was free a moment ago.
func freePort() -> Int {
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
