import Domain
import TestSupport
import Trust

@testable import Gateway

/// An installation's authorities, made once for the whole run.
struct Identities: Sendable {
    static let shared: Identities = {
        do { return try Identities() } catch { fatalError("\(error)") }
    }()

    let deployment: DeploymentID = fresh()
    let serverCA: CertificateAuthority
    let deviceCA: CertificateAuthority
    let server: TLSContext

    init() throws {
        serverCA = try .make(commonName: "servers", validitySeconds: 86_400)
        deviceCA = try .make(commonName: "devices", validitySeconds: 86_400)
        let key = P256Key()
        let certificate = try serverCA.issueServer(
            for: key, dnsNames: ["localhost"], ipAddresses: ["127.0.0.1"], validitySeconds: 86_400)
        server = try .server(
            certificatePEM: certificate.pem, keyPEM: key.pem, clientCA: deviceCA.certificate.pem)
    }

    /// A device's certificate with its key.
    func device(
        _ device: DeviceID, of organization: OrganizationID, deployment: DeploymentID? = nil,
        key: P256Key = P256Key(), validitySeconds: Int64 = 3_600
    ) throws -> (certificate: Certificate, key: P256Key) {
        try self.device(
            uri: "cloudrmm://\(deployment ?? self.deployment)/device/\(organization)/\(device)", key: key,
            validitySeconds: validitySeconds)
    }

    /// A certificate of any name that the authority would sign.
    func device(
        uri: String, key: P256Key = P256Key(), validitySeconds: Int64 = 3_600
    ) throws -> (certificate: Certificate, key: P256Key) {
        let request = try CertificateRequest(pem: key.certificateRequest(commonName: "device"))
        let certificate = try deviceCA.issueDevice(
            request: request, deviceURI: uri, validitySeconds: validitySeconds)
        return (certificate, key)
    }

    /// Some device, as its handshake shows it.
    static func peer(validitySeconds: Int64 = 3_600) throws -> PeerIdentity {
        let made = try shared.device(fresh(), of: fresh(), validitySeconds: validitySeconds)
        guard let peer = PeerIdentity(made.certificate) else { throw NoPeer() }
        return peer
    }

    struct NoPeer: Error {}
}
