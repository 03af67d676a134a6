import FoundationEssentials
import Trust

/// Whom TLS to a server believes and what it shows: paths of PEM files, and a name.
///
/// TLS 1.2 or later. The server's certificate is always verified: its issuer, its time, and its name. The
/// files are read for each new connection, so that renewed ones need no restart.
package struct RedisTLS: Sendable, Equatable {
    /// The file with the authorities that are believed; nil for those that the system trusts.
    package var authority: String?
    /// Our own certificate, if the server asks for one, and its key.
    package var certificate: String?
    package var key: String?
    /// The DNS name or address that the server's certificate must carry; nil for the host that is connected
    /// to.
    package var serverName: String?

    /// TLS with these files and this name.
    package init(
        authority: String? = nil, certificate: String? = nil, key: String? = nil, serverName: String? = nil
    ) {
        (self.authority, self.certificate, self.key) = (authority, certificate, key)
        self.serverName = serverName
    }

    /// Reads the files; throws `.configuration` with the parameter whose file is of no use.
    func context() throws(RedisError) -> TLSContext {
        guard (certificate == nil) == (key == nil) else {
            throw RedisURL.refusal("has one of certificate and key, but they are of use together only")
        }
        let trusted = try Self.read(authority, "ca")
        let shown = try Self.read(certificate, "certificate")
        let secret = try Self.read(key, "key")
        do throws(TrustError) {
            return try .client(
                trustedCA: trusted, certificatePEM: shown, keyPEM: secret, minimum: .v12,
                serverUse: .unstated)
        } catch {
            let names = [("ca", authority), ("certificate", certificate), ("key", key)].compactMap {
                name, path in path.map { "\(name) \($0)" }
            }
            throw RedisURL.refusal(
                "names files that are of no use (\(names.joined(separator: ", "))): \(error)")
        }
    }

    private static func read(_ path: String?, _ name: String) throws(RedisError) -> String? {
        guard let path else { return nil }
        do {
            return try String(contentsOfFile: path, encoding: .utf8)
        } catch {
            throw RedisURL.refusal("names a file as its \(name) that cannot be read: \(path)")
        }
    }
}
