import NIOCore
import NIOEmbedded
import Synchronization
import Testing
import Trust

/// A clock that tests move.
final class TestClock: Sendable {
    private let seconds: Atomic<Int64>

    init(_ seconds: Int64 = systemSeconds()) { self.seconds = Atomic(seconds) }

    func advance(by amount: Int64) { seconds.add(amount, ordering: .relaxed) }

    var now: @Sendable () -> Int64 { { self.seconds.load(ordering: .relaxed) } }
}

@Suite struct TLSIdentityTests {
    let authorities = TestAuthorities.shared

    /// The codes that the two sides end with; both empty when they opened.
    private func outcome(
        server: TLSContext, client: TLSContext, name: String? = "gateway.test"
    ) throws -> (server: [TrustError.Code], client: [TrustError.Code], pair: TLSPair) {
        let pair = try TLSPair(server: server, client: client, name: name)
        try pair.connect()
        #expect(pair.isOpen == (pair.serverSide.codes.isEmpty && pair.clientSide.codes.isEmpty))
        return (pair.serverSide.codes, pair.clientSide.codes, pair)
    }

    private func refusesClient(
        _ identity: TestAuthorities.Identity?, sourceLocation: SourceLocation = #_sourceLocation
    ) throws {
        let server = try authorities.serverContext(clientCA: authorities.deviceCA)
        let pair = try TLSPair(server: server, client: authorities.clientContext(identity: identity))
        try pair.connect()
        #expect(pair.serverSide.codes == [.refusedCertificate], sourceLocation: sourceLocation)
        #expect(pair.serverSide.handshakes.isEmpty, sourceLocation: sourceLocation)
        // A TLS 1.3 client learns of the refusal by an alert after its own handshake.
        #expect(pair.clientSide.codes == [.refusedCertificate], sourceLocation: sourceLocation)
        #expect(!pair.server.isActive && !pair.client.isActive, sourceLocation: sourceLocation)
    }

    @Test("a client without certificate is refused where one is asked for")
    func noCertificate() throws { try refusesClient(nil) }

    @Test("a client of a stranger's authority is refused, even if it has the same name")
    func strangersClient() throws {
        let stranger = try CertificateAuthority.make(commonName: "Test devices", validitySeconds: 86_400)
        try refusesClient(TestAuthorities.device(of: stranger))
    }

    @Test("an expired and a not yet valid client certificate are refused")
    func clientValidity() throws {
        let past = systemSeconds() - 10 * 86_400
        try refusesClient(
            TestAuthorities.device(of: authorities.deviceCA, validitySeconds: 86_400, now: past))
        let future = systemSeconds() + 86_400
        try refusesClient(
            TestAuthorities.device(of: authorities.deviceCA, validitySeconds: 86_400, now: future))
    }

    @Test("a server's certificate is no client's, even of the right authority")
    func serverAsClient() throws {
        let key = P256Key()
        let certificate = try authorities.deviceCA.issueServer(
            for: key, dnsNames: ["a"], ipAddresses: [], validitySeconds: 60)
        try refusesClient(.init(certificate: certificate, key: key))
    }

    @Test("an authority's own certificate is no client's")
    func authorityAsClient() throws {
        let key = try P256Key(pem: authorities.deviceCA.keyPEM)
        try refusesClient(.init(certificate: authorities.deviceCA.certificate, key: key))
    }

    @Test("a certificate without extended key usage is refused on either side")
    func noUsage() async throws {
        let folder = try TemporaryFolder()
        let key = P256Key()
        let request = try folder.write("r.pem", key.certificateRequest(commonName: "gateway.test"))
        func issued(by authority: CertificateAuthority) async throws -> TestAuthorities.Identity {
            let certificateFile = try folder.write("ca.pem", authority.certificate.pem)
            let keyFile = try folder.write("ca.key", authority.keyPEM)
            let extensions = try folder.write(
                "ext", "subjectAltName=DNS:gateway.test\nbasicConstraints=CA:FALSE\n")
            let made = try await Tool.openssl(
                "x509", "-req", "-in", request, "-CA", certificateFile, "-CAkey", keyFile, "-extfile",
                extensions,
                "-days", "1", "-set_serial", "77")
            return .init(certificate: try Certificate(pem: made.output), key: key)
        }
        let client = try await issued(by: authorities.deviceCA)
        #expect(client.certificate.extendedKeyUsages.isEmpty && client.certificate.serial == "4d")
        try refusesClient(client)
        let server = try await issued(by: authorities.serverCA)
        let result = try outcome(
            server: authorities.serverContext(identity: server, clientCA: nil),
            client: authorities.clientContext(identity: nil))
        #expect(result.client == [.refusedCertificate])
    }

    @Test(
        "a device's certificate is no server's, even where the client believes its authority"
    )
    func deviceAsServer() throws {
        let result = try outcome(
            server: authorities.serverContext(identity: authorities.device, clientCA: nil),
            client: authorities.clientContext(identity: nil, trusting: authorities.deviceCA))
        #expect(result.client == [.refusedCertificate])
        #expect(!result.server.isEmpty)
    }

    @Test("a server of a stranger's authority is refused")
    func strangersServer() throws {
        let stranger = try TestAuthorities()
        let result = try outcome(
            server: stranger.serverContext(clientCA: nil), client: authorities.clientContext(identity: nil))
        #expect(result.client == [.refusedCertificate] && result.server == [.refusedCertificate])
    }

    @Test("an expired server is refused by the client's clock")
    func expiredServer() throws {
        let clock = TestClock()
        clock.advance(by: 2 * 86_400)
        let result = try outcome(
            server: authorities.serverContext(clientCA: nil),
            client: authorities.clientContext(identity: nil, now: clock.now))
        #expect(result.client == [.refusedCertificate])
    }

    @Test(
        "a server must carry the name or address",
        arguments: ["gateway.test", "127.0.0.1", "::1"])
    func names(name: String) throws {
        let server = try authorities.serverContext(clientCA: nil)
        let client = try authorities.clientContext(identity: nil)
        #expect(try outcome(server: server, client: client, name: name).pair.isOpen)
        for wrong in ["other.test", "127.0.0.2", "test", "a.gateway.test"] {
            #expect(try outcome(server: server, client: client, name: wrong).client == [.refusedCertificate])
        }
        for none in [nil, "", "gateway.test\0.evil", "gateway test"] {
            #expect(try outcome(server: server, client: client, name: none).client == [.handshake])
        }
    }

    @Test("a listener that asks for no certificate gets none")
    func anonymousClient() throws {
        let result = try outcome(
            server: authorities.serverContext(clientCA: nil),
            client: authorities.clientContext(identity: authorities.device))
        #expect(result.pair.isOpen)
        #expect(result.pair.serverSide.handshakes.first?.peerCertificate == nil)
    }

    @Test("without a common protocol there is no session, without an offer there is one")
    func protocols() throws {
        let server = try authorities.serverContext(clientCA: nil, alpn: ["b/1", "a/1"])
        func offer(_ alpn: [String]) throws -> TLSPair {
            try outcome(server: server, client: authorities.clientContext(identity: nil, alpn: alpn)).pair
        }
        #expect(try offer(["x", "a/1", "b/1"]).serverSide.handshakes.first?.alpn == "b/1")
        #expect(try offer(["a/1"]).clientSide.handshakes.first?.alpn == "a/1")
        #expect(try offer([]).isOpen)
        let refused = try offer(["x", "a/10"])
        #expect(refused.serverSide.codes == [.handshake] && refused.clientSide.codes == [.handshake])
    }

    @Test("a second connection resumes the session and still shows the certificate")
    func resumption() throws {
        let server = try authorities.serverContext(clientCA: authorities.deviceCA)
        let client = try authorities.clientContext(identity: authorities.device)
        for round in 0..<3 {
            let pair = try TLSPair(server: server, client: client)
            try pair.connect()
            #expect(pair.serverSide.handshakes.first?.resumed == (round > 0))
            #expect(pair.clientSide.handshakes.first?.resumed == (round > 0))
            #expect(
                pair.serverSide.handshakes.first?.peerCertificate?.uriNames == [TestAuthorities.deviceURI])
            pair.client.close(promise: nil)
            try pair.exchange()
        }
        let elsewhere = try outcome(server: server, client: client, name: "localhost").pair
        #expect(elsewhere.clientSide.handshakes.first?.resumed == false)
    }

    @Test(
        "listeners share sessions by ticket keys, but not with those that ask for another authority"
    )
    func ticketKeys() throws {
        let keys = TicketKeys(at: systemSeconds())
        func gateway() throws -> TLSContext {
            try authorities.serverContext(
                clientCA: authorities.deviceCA, tickets: TicketKeys(bytes: keys.bytes))
        }
        let client = try authorities.clientContext(identity: authorities.device)
        func resumed(at server: TLSContext) throws -> Bool? {
            let pair = try TLSPair(server: server, client: client)
            try pair.connect()
            pair.client.close(promise: nil)
            try pair.exchange()
            return pair.serverSide.handshakes.first?.resumed
        }
        let open = try authorities.serverContext(clientCA: nil, tickets: keys)
        let otherKeys = try authorities.serverContext(
            clientCA: authorities.deviceCA, tickets: TicketKeys(at: systemSeconds()))
        #expect(try resumed(at: gateway()) == false)
        #expect(try resumed(at: gateway()) == true)
        #expect(try resumed(at: open) == false)
        #expect(try resumed(at: open) == true)
        #expect(try resumed(at: gateway()) == false)
        #expect(try resumed(at: otherKeys) == false)
    }

    @Test("a client resumes after its server vanished, but not a session that broke")
    func resumptionAfterLoss() throws {
        let server = try authorities.serverContext(clientCA: nil)
        let client = try authorities.clientContext(identity: nil)
        let vanished = try outcome(server: server, client: client).pair
        vanished.client.pipeline.fireChannelInactive()
        #expect(vanished.clientSide.codes == [.truncated])
        let broken = try outcome(server: server, client: client).pair
        #expect(broken.clientSide.handshakes.first?.resumed == true)
        try broken.client.writeInbound(ByteBuffer(repeating: 0, count: 100))
        #expect(broken.clientSide.codes == [.malformed])
        let next = try outcome(server: server, client: client).pair
        #expect(next.clientSide.handshakes.first?.resumed == false)
    }

    @Test("a resumed session does not outlive the certificate it began with")
    func resumedAfterExpiry() throws {
        let clock = TestClock()
        let server = try authorities.serverContext(clientCA: authorities.deviceCA, now: clock.now)
        let device = try TestAuthorities.device(
            of: authorities.deviceCA, validitySeconds: 3600, now: clock.now())
        let client = try authorities.clientContext(identity: device)
        let first = try outcome(server: server, client: client).pair
        #expect(first.isOpen)
        first.client.close(promise: nil)
        try first.exchange()
        clock.advance(by: 3601)
        let second = try TLSPair(server: server, client: client)
        try second.connect()
        #expect(second.serverSide.codes == [.expired])
        #expect(second.serverSide.handshakes.isEmpty && !second.server.isActive)
    }

    @Test("a session that turned out bad is not offered again")
    func sessionOfferedOnce() throws {
        let clock = TestClock()
        let server = try authorities.serverContext(clientCA: nil)
        let client = try authorities.clientContext(identity: nil, now: clock.now)
        let first = try outcome(server: server, client: client).pair
        first.client.close(promise: nil)
        try first.exchange()
        clock.advance(by: 2 * 86_400)
        #expect(try outcome(server: server, client: client).client == [.expired])
        clock.advance(by: -2 * 86_400)
        #expect(
            try outcome(server: server, client: client).pair.clientSide.handshakes.first?.resumed == false)
    }

    @Test("a context refuses material that does not belong together")
    func badMaterial() throws {
        let (server, device) = (authorities.server, authorities.device)
        func code(_ body: () throws -> TLSContext) -> TrustError.Code? {
            do {
                _ = try body()
                return nil
            } catch {
                return (error as? TrustError)?.code
            }
        }
        let pem = server.certificate.pem
        #expect(
            code { try .server(certificatePEM: pem, keyPEM: device.key.pem, clientCA: nil) } == .wrongType)
        #expect(code { try .server(certificatePEM: "", keyPEM: server.key.pem, clientCA: nil) } == .malformed)
        #expect(code { try .server(certificatePEM: pem, keyPEM: "", clientCA: nil) } == .malformed)
        #expect(
            code { try .server(certificatePEM: pem, keyPEM: server.key.pem, clientCA: "x") } == .malformed)
        #expect(code { try .client(trustedCA: "") } == .malformed)
        #expect(code { try .client(trustedCA: pem, certificatePEM: device.certificate.pem) } == .malformed)
        #expect(code { try .client(trustedCA: pem, alpn: [""]) } == .malformed)
        #expect(
            code { try .client(trustedCA: pem, alpn: [String(repeating: "a", count: 256)]) } == .malformed)
    }
}
