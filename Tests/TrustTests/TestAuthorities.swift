import Trust

/// A deployment's two authorities with one server and one device, made once for the whole test run.
struct TestAuthorities: Sendable {
    static let shared: TestAuthorities = {
        do { return try TestAuthorities() } catch { fatalError("\(error)") }
    }()
    static let deviceURI = "cloudrmm://d0/device/o1/a1"

    let serverCA: CertificateAuthority
    let deviceCA: CertificateAuthority
    let server: Identity
    let device: Identity

    /// A certificate with its key.
    struct Identity: Sendable {
        let certificate: Certificate
        let key: P256Key
    }

    init() throws {
        serverCA = try .make(commonName: "Test servers", validitySeconds: 365 * 86_400)
        deviceCA = try .make(commonName: "Test devices", validitySeconds: 365 * 86_400)
        let serverKey = P256Key()
        server = Identity(
            certificate: try serverCA.issueServer(
                for: serverKey, dnsNames: ["localhost", "gateway.test"], ipAddresses: ["127.0.0.1", "::1"],
                validitySeconds: 86_400),
            key: serverKey)
        device = try Self.device(of: deviceCA)
    }

    static func device(
        of authority: CertificateAuthority, validitySeconds: Int64 = 90 * 86_400, now: Int64 = systemSeconds()
    ) throws -> Identity {
        let key = P256Key()
        let request = try CertificateRequest(pem: key.certificateRequest(commonName: "whatever"))
        return Identity(
            certificate: try authority.issueDevice(
                request: request, deviceURI: deviceURI, validitySeconds: validitySeconds, now: now),
            key: key)
    }

    func serverContext(
        identity: Identity? = nil, clientCA: CertificateAuthority?, minimum: TLSContext.Version = .v13,
        alpn: [String] = [], tickets: TicketKeys? = nil, now: @escaping @Sendable () -> Int64 = systemSeconds
    ) throws -> TLSContext {
        let identity = identity ?? server
        return try .server(
            certificatePEM: identity.certificate.pem, keyPEM: identity.key.pem,
            clientCA: clientCA?.certificate.pem,
            minimum: minimum, alpn: alpn, tickets: tickets, now: now)
    }

    func clientContext(
        identity: Identity?, trusting authority: CertificateAuthority? = nil, alpn: [String] = [],
        now: @escaping @Sendable () -> Int64 = systemSeconds
    ) throws -> TLSContext {
        try .client(
            trustedCA: (authority ?? serverCA).certificate.pem, certificatePEM: identity?.certificate.pem,
            keyPEM: identity?.key.pem, alpn: alpn, now: now)
    }
}
