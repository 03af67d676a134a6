import Domain
import Testing
import Trust
import Wire

@testable import Agent

@Suite("Verifier") struct VerifierTests {
    private let fixture: Fixture
    private let verifier: Verifier

    init() throws {
        fixture = try Fixture()
        verifier = try fixture.verifier()
    }

    private func code(_ dispatch: Dispatch, by verifier: Verifier? = nil, at now: Instant? = nil) -> Refusal
        .Code?
    {
        do throws(Refusal) {
            _ = try (verifier ?? self.verifier).job(of: dispatch, now: now ?? fixture.now)
            return nil
        } catch {
            return error.code
        }
    }

    private func dispatch(_ statement: [UInt8], attempt: Int = 1) -> Dispatch {
        Dispatch(name: fixture.name(attempt: attempt), job: statement)
    }

    @Test("a job for the organization is let in with what was signed")
    func accepts() throws {
        let job = fixture.job()
        let verified = try verifier.job(of: fixture.dispatch(job), now: fixture.now)
        #expect(verified.payload == job)
        #expect(verified.expiresAt.seconds == fixture.now.seconds + 3_600)
    }

    @Test("each reason to refuse a statement has its code")
    func refusals() throws {
        let job = fixture.job()
        #expect(code(dispatch(fixture.sign(.job, job, by: SigningKey()))) == .signature)
        #expect(code(dispatch([1, 2, 3])) == .signature)
        #expect(code(dispatch(fixture.assignment())) == .type)
        #expect(code(dispatch(fixture.sign(.job, job, deployment: .new(at: fixture.now)))) == .deployment)
        #expect(code(dispatch(fixture.sign(.job, job, organization: .new(at: fixture.now)))) == .organization)
        #expect(code(dispatch(fixture.sign(.job, job, issuedIn: -60, expiresIn: 0))) == .expired)
        #expect(code(dispatch(fixture.sign(.job, job, issuedIn: 301, expiresIn: 900))) == .notYetValid)
        #expect(code(dispatch(fixture.sign(.job, TokenPayloadLike()))) == .content)
        #expect(code(dispatch(fixture.sign(.job, job), attempt: 4)) == .attempts)
        #expect(code(dispatch(fixture.sign(.job, job), attempt: 3)) == nil)
    }

    @Test("a changed bit anywhere in a job's statement is refused")
    func everyBit() {
        let statement = fixture.sign(.job, fixture.job())
        for index in statement.indices {
            var changed = statement
            changed[index] ^= 1 << UInt8(index % 8)
            #expect(code(dispatch(changed)) != nil)
        }
    }

    @Test("a job is refused before its time, but for as much as a clock may be slow")
    func notBefore() {
        for (seconds, expected) in [(-60, nil), (0, nil), (300, nil), (301, Refusal.Code.notYetValid)] {
            var job = fixture.job()
            job.notBefore = fixture.now + .seconds(seconds)
            #expect(code(fixture.dispatch(job)) == expected)
        }
    }

    @Test("site targets are judged by the pinned assignment")
    func site() {
        #expect(code(fixture.dispatch(fixture.job(target: .site(fixture.site)))) == nil)
        #expect(code(fixture.dispatch(fixture.job(target: .site(.new(at: fixture.now))))) == .target)
    }

    @Test("list targets need this device's own proof")
    func list() {
        let devices = [DeviceID.new(at: fixture.now), fixture.device, .new(at: fixture.now)]
        let tree = MerkleTree(
            leaves: devices.map { SignedTarget.leaf(organization: fixture.organization, device: $0) })
        let job = fixture.job(target: .list(root: tree.root, size: tree.size))
        var own = fixture.dispatch(job)
        #expect(code(own) == .target)
        own.leafIndex = 1
        own.proof = tree.proof(of: 1).map { Base64Bytes($0) }
        #expect(code(own) == nil)
        var other = own
        other.leafIndex = 0
        other.proof = tree.proof(of: 0).map { Base64Bytes($0) }
        #expect(code(other) == .target)
    }

    @Test("pinned statements give no power after their own expiry")
    func pinnedExpiry() throws {
        let verifier = try Verifier(
            deployment: fixture.deployment, device: fixture.device, keyHash: fixture.key.publicKeyHash,
            rootKey: fixture.root.publicKey, keySet: fixture.keySet(expiresIn: 60),
            assignment: fixture.assignment(expiresIn: 30),
            now: fixture.now)
        for (seconds, expected) in [(29, nil), (30, Refusal.Code.expired), (60, .expired)] {
            #expect(
                code(fixture.dispatch(fixture.job()), by: verifier, at: fixture.now + .seconds(seconds))
                    == expected)
        }
    }

    @Test("only a newer key set of the root key comes into force")
    func keySets() throws {
        var verifier = verifier
        let next = SigningKey()
        let keySet = fixture.keySet(version: 2, jobKeys: [next])
        #expect(throws: TrustError.self) {
            try verifier.adopt(keySet: fixture.keySet(version: 2, by: fixture.signer), now: fixture.now)
        }
        #expect(throws: AgentError.self) {
            try verifier.adopt(keySet: fixture.keySet(version: 1, jobKeys: [next]), now: fixture.now)
        }
        #expect(try !verifier.adopt(keySet: verifier.keySet.encoded, now: fixture.now), "it is in force")
        #expect(verifier == self.verifier)
        #expect(try verifier.adopt(keySet: keySet, now: fixture.now))
        #expect(throws: AgentError.self) {
            try verifier.adopt(keySet: fixture.keySet(version: 2, jobKeys: [next, next]), now: fixture.now)
        }
        let job = fixture.job()
        #expect(throws: Refusal.self) { try verifier.job(of: fixture.dispatch(job), now: fixture.now) }
        _ = try verifier.job(of: dispatch(fixture.sign(.job, job, by: next)), now: fixture.now)
    }

    @Test("only a newer assignment of this device comes into force")
    func assignments() throws {
        var verifier = verifier
        let site = SiteID.new(at: fixture.now)
        for refused in [
            fixture.assignment(version: 1, site: site),
            fixture.assignment(version: 2, device: .new(at: fixture.now)),
            fixture.assignment(version: 2, key: P256Key()), fixture.assignment(version: 2, by: fixture.root),
        ] {
            #expect(throws: (any Error).self) { try verifier.adopt(assignment: refused, now: fixture.now) }
        }
        #expect(verifier == self.verifier)
        try verifier.adopt(assignment: fixture.assignment(version: 2, site: site), now: fixture.now)
        _ = try verifier.job(of: fixture.dispatch(fixture.job(target: .site(site))), now: fixture.now)
    }

    @Test("what was pinned loads again as it was")
    func pins() throws {
        let loaded = try Verifier(
            deployment: fixture.deployment, device: fixture.device, keyHash: fixture.key.publicKeyHash,
            rootKey: fixture.root.publicKey, pinnedKeySet: verifier.keySet.encoded,
            pinnedAssignment: verifier.assignment.encoded)
        #expect(loaded == verifier)
    }
}

/// Signed by the right key for the right device, and not a job.
private struct TokenPayloadLike: WireObject {
    init() {}
    init(from reader: inout FieldReader) throws(FieldError) {}
    func fields(to writer: inout JSONWriter) { writer.field("id", 1) }
}
