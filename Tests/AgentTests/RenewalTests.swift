import Domain
import Logging
import Process
import Testing
import Trust
import Wire

@testable import Agent

@Suite("The device's certificate", .timeLimit(.minutes(1))) struct RenewalTests {
    private let fixture: Fixture

    init() throws { fixture = try Fixture() }

    private func renewal(of certificate: Certificate, isDueNow: Bool = false) throws -> CertificateRenewal {
        CertificateRenewal(
            Identity(
                verifier: try fixture.verifier(), key: fixture.key, certificate: certificate,
                gatewayURL: "wss://localhost:1"),
            isDueNow: isDueNow)
    }

    @Test("another one is due when two thirds of its life are over, or at once when somebody wants it")
    func due() throws {
        let certificate = try fixture.certificate(for: fixture.key, seconds: 60_000)
        let renewal = try renewal(of: certificate)
        let third = (certificate.notAfter - certificate.notBefore) / 3
        func isDue(_ seconds: Int64) -> Bool {
            renewal.isDue(now: Instant(seconds: certificate.notBefore + seconds))
        }
        #expect(!isDue(0) && !isDue(2 * third - 1) && isDue(2 * third) && isDue(4 * third))
        let wanted = try self.renewal(of: certificate, isDueNow: true)
        #expect(wanted.isDue(now: fixture.now))
        wanted.take(certificate)
        #expect(!wanted.isDue(now: fixture.now), "once")
    }

    @Test("only one of the device's own key and name is taken, from the pinned authority, and no shorter one")
    func judge() throws {
        let old = try fixture.certificate(for: fixture.key, seconds: 40_000)
        let renewal = try renewal(of: old)
        let authority = fixture.deviceCA.certificate.pem
        func refusal(_ pem: String, now: Instant? = nil) -> String? {
            do {
                _ = try renewal.judge(pem, authority: authority, now: now ?? fixture.now)
                return nil
            } catch { return "\(error)" }
        }
        let good = try fixture.certificate(for: fixture.key, seconds: 50_000)
        #expect(refusal(good.pem) == nil)
        #expect(refusal(good.pem, now: fixture.now + .seconds(51_000)) != nil, "it has ended")
        let stranger = try CertificateAuthority.make(commonName: "device CA", validitySeconds: 86_400)
        let bad: [(String, String)] = [
            ("is for another key", try fixture.certificate(for: P256Key(), seconds: 50_000).pem),
            (
                "is not from the pinned authority",
                try fixture.certificate(for: fixture.key, by: stranger, seconds: 50_000).pem
            ),
            (
                "is another device's",
                try fixture.certificate(for: fixture.key, device: .new(at: fixture.now), seconds: 50_000).pem
            ),
            (
                "ends before the one that there is",
                try fixture.certificate(for: fixture.key, seconds: 30_000).pem
            ),
            (
                "is for another use",
                try fixture.serverCA.issueServer(
                    for: fixture.key, dnsNames: ["x"], ipAddresses: [], validitySeconds: 50_000
                ).pem
            ),
        ]
        for (reason, pem) in bad.dropLast() {
            #expect(refusal(pem)?.contains(reason) == true, "\(reason): \(refusal(pem) ?? "taken")")
        }
        #expect(refusal(bad[bad.count - 1].1) != nil)
        for nonsense in ["", "no", good.pem.replacing("A", with: "B")] { #expect(refusal(nonsense) != nil) }
    }

    @Test("an agent asks in its session, keeps what holds, and opens the next session with it")
    func renewed() async throws {
        let gateway = try await TestGateway.start(fixture, features: .renewal)
        // Issued so long ago that two thirds are over.
        let old = try fixture.certificate(for: fixture.key, seconds: 3_000, issuedIn: -2_900)
        let directory = try fixture.directory(gatewayPort: gateway.port, certificate: old)
        let agent = try EnrolledAgent(
            directory: directory, backoff: Backoff(base: .milliseconds(5), limit: .milliseconds(20)),
            now: Instant.now, startedDelay: .seconds(3_600),
            logger: Logger(label: "test", factory: { _ in SwiftLogNoOpLogHandler() }))
        async let running: Void = agent.run()
        let first = try await gateway.welcomedSession()
        guard case .renew(let request) = try await first.next() else {
            Issue.record("nothing is asked for")
            return
        }
        #expect(try CertificateRequest(pem: request).publicKeyHash == fixture.key.publicKeyHash)
        // A gateway that sends anything cannot take the good one away.
        first.send(.renewed(Renewed(certificate: try fixture.certificate(for: P256Key()).pem)))
        first.send(.renewed(Renewed(refusal: "no")))
        let new = try fixture.certificate(for: fixture.key, seconds: 50_000)
        first.send(.renewed(Renewed(certificate: new.pem)))
        // It goes on, and what comes behind is worked on.
        first.send(.dispatch(fixture.dispatch(fixture.job(.ping))))
        while true { if case .finished = try await first.next() { break } }
        #expect(try directory.load().certificate.serial == new.serial)
        first.close(code: 1001)
        let second = try await gateway.welcomedSession()
        #expect(gateway.resumptions == [false, false], "with another certificate it is another session")
        second.send(.dispatch(fixture.dispatch(fixture.job(.ping))))
        while true {
            let frame = try await second.next()
            if case .renew = frame { Issue.record("it asks again") }
            if case .finished = frame { break }
        }
        agent.stop()
        try await running
        try await gateway.stop()
        try Directory.removeTree(directory.path)
    }
}
