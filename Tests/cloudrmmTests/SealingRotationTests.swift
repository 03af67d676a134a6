import Process
import Testing
import Trust

@testable import cloudrmm

@Suite("Rotation of the key of stored secrets")
struct SealingRotationTests {
    private let scratch: ScratchKeys
    private let label = SecretLabel(kind: .script, name: "a", version: 1)

    init() throws { scratch = try ScratchKeys() }

    private func keys() throws -> SealingKeys { try scratch.keys.openAPIKeys().sealing }

    @Test("after a rotation the new key seals, and those before open until they are retired")
    func rotation() throws {
        let secret = SecretBytes(Array("a secret".utf8))
        let first = try keys().seal(secret, for: label)
        let id = try scratch.keys.rotateSealingKey()
        let second = try keys().seal(secret, for: label)
        #expect(second.keyID == id && first.keyID != id)
        _ = try scratch.keys.rotateSealingKey()
        for sealed in [first, second] { #expect(try keys().open(sealed, for: label) == secret) }
        #expect(try keys().needsResealing(second))
        #expect(try scratch.keys.retireSealingKeys() == 2)
        #expect(throws: TrustError.self) { try keys().open(second, for: label) }
        _ = try keys().open(keys().seal(secret, for: label), for: label)
    }

    @Test("a crash between the two files of a rotation leaves the key before in force")
    func crash() throws {
        let sealed = try keys().seal(SecretBytes([1]), for: label)
        let kept = try readFile("\(scratch.path)/sealing.key", max: 64)
        try DurableFile.write(kept, to: "\(scratch.path)/sealing-\(sealed.keyID).key", mode: 0o600)
        #expect(try keys().open(sealed, for: label) == SecretBytes([1]))
        #expect(try !keys().needsResealing(sealed))
    }
}
