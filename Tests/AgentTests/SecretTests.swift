import Domain
import Logging
import Testing
import Trust
import Wire

@testable import Agent

@Suite("Secrets on the device") struct SecretTests {
    private let fixture: Fixture
    private let verifier: Verifier

    init() throws {
        fixture = try Fixture()
        verifier = try fixture.verifier()
    }

    private static let value = "canary 'ü' 0123456789"

    /// A job that gives the script values, each for a name and perhaps a site.
    private func job(
        _ script: Script, _ values: [(name: String, site: SiteID?, salted: SaltedSecret)]
    ) throws -> JobPayload {
        var job = fixture.job(.script, script)
        job.secrets = try values.map { name, site, salted in
            SignedSecret(
                id: .new(at: fixture.now), name: try #require(SecretName(name)), version: 3,
                hash: salted.hash, site: site)
        }
        return job
    }

    private func script(_ body: String, _ interpreter: Interpreter = .sh) throws -> Script {
        var script = Script(interpreter, body)
        script.secrets = [SecretUse(name: try #require(SecretName("a")), environment: "A_SECRET")]
        return script
    }

    private func salted(_ text: String = value) -> SaltedSecret {
        SaltedSecret(SecretBytes(Array(text.utf8)))
    }

    private func sealed(
        _ salted: SaltedSecret, _ secret: SignedSecret, _ job: JobPayload, device: DeviceID? = nil,
        to key: P256Key? = nil
    ) throws -> Base64Bytes {
        let parts = secret.sealedParts(
            deployment: fixture.deployment, organization: fixture.organization, job: job.job,
            device: device ?? fixture.device)
        return Base64Bytes(
            try DeviceSeal.seal(salted.bytes, to: (key ?? fixture.key).publicKey, for: parts).bytes)
    }

    private func open(_ job: JobPayload, _ secrets: [Base64Bytes]?) throws(Refusal) -> VerifiedJob {
        var dispatch = fixture.dispatch(job)
        dispatch.secrets = secrets
        return try verifier.opened(
            verifier.job(of: dispatch, now: fixture.now), of: dispatch, with: fixture.key)
    }

    private func code(_ job: JobPayload, _ secrets: [Base64Bytes]?) -> Refusal.Code? {
        do throws(Refusal) {
            _ = try open(job, secrets)
            return nil
        } catch {
            return error.code
        }
    }

    @Test("a value opens with the device's key for the job and device that it was sealed for, and no other")
    func opens() throws {
        let salted = salted()
        let job = try job(script("true"), [("a", nil, salted)])
        let (secret, own) = (job.secrets[0], try sealed(salted, job.secrets[0], job))
        #expect(try open(job, [own]).secrets == [SecretBytes(Array(Self.value.utf8))])
        #expect(code(job, nil) == .secret && code(job, []) == .secret && code(job, [own, own]) == .secret)
        #expect(try code(job, [sealed(salted, secret, job, to: P256Key())]) == .secret)
        #expect(try code(job, [sealed(salted, secret, job, device: .new(at: fixture.now))]) == .secret)
        #expect(try code(job, [sealed(salted, secret, fixture.job())]) == .secret)
        // The same text behind another salt is another value than was signed for.
        #expect(try code(job, [sealed(self.salted(), secret, job)]) == .secret)
        #expect(code(job, [Base64Bytes([1, 2, 3])]) == .secret)
        for index in own.bytes.indices {
            var altered = own.bytes
            altered[index] ^= 1
            #expect(code(job, [Base64Bytes(altered)]) == .secret)
        }
        // A job without secrets is given none, whatever comes with it.
        #expect(try open(fixture.job(), [own]).secrets.isEmpty)
    }

    @Test("the value of the device's own site goes before that of all sites; another site's is not taken")
    func sites() throws {
        let (all, own, other) = (salted("for all sites"), salted("for this site"), salted("for another"))
        let elsewhere = SiteID.new(at: fixture.now)
        let both = try job(
            script("true"), [("a", nil, all), ("a", elsewhere, other), ("a", fixture.site, own)])
        let value = try open(both, [sealed(own, both.secrets[2], both)]).secrets
        #expect(value == [SecretBytes(Array("for this site".utf8))])
        #expect(try code(both, [sealed(all, both.secrets[0], both)]) == .secret)
        let others = try job(script("true"), [("a", elsewhere, other)])
        #expect(try code(others, [sealed(other, others.secrets[0], others)]) == .secret)
        let rest = try job(script("true"), [("a", elsewhere, other), ("a", nil, all)])
        #expect(try code(rest, [sealed(all, rest.secrets[1], rest)]) == nil)
    }

    @Test("a statement whose values are not those of its script is no job")
    func names() throws {
        let salted = salted()
        var job = try job(script("true"), [("b", nil, salted)])
        #expect(code(job, []) == .content)
        job.secrets = []
        #expect(code(job, []) == .content)
        var bare = fixture.job()
        bare.secrets = try self.job(script("true"), [("a", nil, salted)]).secrets
        #expect(code(bare, []) == .content)
    }

    @Test(
        "a script has its secrets in a variable and as its input alone, and they are masked in its output",
        arguments: Interpreter.allCases)
    func run(_ interpreter: Interpreter) async throws {
        let print =
            switch interpreter {
            case .sh, .bash:
                """
                read -r line; printf '%s|%s|%s' "${#A_SECRET}" "$A_SECRET" "$line"; printf '%s' "$line" >&2
                tr '\\0' ' ' < /proc/$$/cmdline; exit 7
                """
            case .python3:
                """
                import os, sys
                line = sys.stdin.read()
                a = os.environ["A_SECRET"]
                sys.stdout.write("%d|%s|%s" % (len(a), a, line))
                sys.stderr.write(line)
                sys.stdout.write(open("/proc/self/cmdline").read().replace("\\0", " "))
                sys.exit(7)
                """
            }
        var script = try script(print, interpreter)
        script.secrets.append(SecretUse(name: try #require(SecretName("b")), environment: nil))
        let job = fixture.job(.script, script)
        let (first, second) = ("canary-in-environment", "canary-as-input")
        try await withDirectory { directory in
            let execution = Execution(
                job: job, secrets: [first, second].map { SecretBytes(Array($0.utf8)) },
                key: AttemptKey(job: job.job, attempt: 1), directory: "\(directory)/run",
                logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() })
            let result = await execution.perform { _ in false }
            #expect(result.exitCode == 7)
            let stdout = String(decoding: result.stdout.head.bytes, as: UTF8.self)
            let masks = (stars(first), stars(second))
            #expect(stdout.hasPrefix("21|\(masks.0)|\(masks.1)"), "\(stdout)")
            #expect(stdout.contains("/run/script") && !stdout.contains("canary"))
            #expect(String(decoding: result.stderr.head.bytes, as: UTF8.self) == masks.1)
            #expect(result.stdout.bytes == result.stdout.head.bytes.count)
        }
    }

    private func stars(_ text: String) -> String { String(repeating: "*", count: text.utf8.count) }
}
