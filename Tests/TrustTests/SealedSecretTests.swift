import Domain
import Testing

@testable import Trust

/// The code of what an operation threw; nil when it did not, or something else.
func code(_ operation: () throws -> Void) -> TrustError.Code? {
    do { try operation() } catch { return (error as? TrustError)?.code }
    return nil
}

@Suite struct SealedSecretTests {
    private let secret = SecretBytes(Array("a value that scripts get".utf8))
    private let old: SealingKeys.Key
    private let new: SealingKeys.Key
    private let keys: SealingKeys
    private let label = SecretLabel(
        kind: .script, partner: .new(at: Instant(seconds: 1)), organization: .new(at: Instant(seconds: 2)),
        site: .new(at: Instant(seconds: 3)), name: "db-password", version: 7)

    init() throws {
        old = try SealingKeys.Key(id: "2025", secret: SecretBytes(random: 32))
        new = try SealingKeys.Key(id: "2026-a", secret: SecretBytes(random: 32))
        keys = try SealingKeys(current: new, older: [old])
    }

    @Test("AES-256-GCM gives the ciphertext and tag of test case 16 of its specification")
    func vector() throws {
        let key = "feffe9928665731c6d6a8f9467308308feffe9928665731c6d6a8f9467308308"
        let plain =
            "d9313225f88406e5a55909c5aff5269a86a7a9531534f7da2e4c303d8a318a72"
            + "1c3c0c95956809532fcf0e2449a6b525b16aedf5aa0de657ba637b39"
        let sealed = try AES256GCM.seal(
            SecretBytes(#require(Hex.decode(plain))), key: SecretBytes(#require(Hex.decode(key))),
            nonce: #require(Hex.decode("cafebabefacedbaddecaf888")),
            associated: #require(Hex.decode("feedfacedeadbeeffeedfacedeadbeefabaddad2")))
        #expect(
            Hex.encode(sealed)
                == "522dc1f099567d07f47f37a32a84427d643a8cdcbfe5c0c97598a2bd2555d1aa"
                + "8cb08e48590dbb3da7b08b1056828838c5f61e6393ba7a0abcc9f662"
                + "76fc6ece0f4e1768cddf8853bb2d551b")
    }

    @Test("a secret opens for its label, from its bytes, as often as wanted")
    func roundTrip() throws {
        let sealed = try keys.seal(secret, for: label)
        #expect(try keys.open(sealed, for: label) == secret)
        let kept = try SealedSecret(bytes: sealed.bytes)
        #expect(kept == sealed && kept.keyID == "2026-a")
        #expect(try keys.open(kept, for: label) == secret)
        #expect(kept.bytes.count == 2 + 6 + 12 + secret.count + 16)
    }

    @Test("the same secret is sealed differently each time, and does not show")
    func nonces() throws {
        let first = try keys.seal(secret, for: label).bytes
        let second = try keys.seal(secret, for: label).bytes
        #expect(first.prefix(8) == second.prefix(8))
        #expect(first[8..<20] != second[8..<20])
        #expect(first[20...] != second[20...])
        #expect(!String(decoding: first, as: UTF8.self).contains("scripts"))
    }

    @Test("a secret does not open for another label: moved, renamed, of another kind or version")
    func labels() throws {
        let sealed = try keys.seal(secret, for: label)
        let changes: [(inout SecretLabel) -> Void] = [
            { $0.kind = .webhook }, { $0.partner = .new(at: Instant(seconds: 9)) }, { $0.partner = nil },
            { $0.organization = .new(at: Instant(seconds: 9)) }, { $0.organization = nil },
            { $0.site = .new(at: Instant(seconds: 9)) }, { $0.site = nil }, { $0.name = "db-passwor" },
            { $0.name = "" }, { $0.version = 6 }, { $0.version = 8 },
            { $0 = SecretLabel(kind: .script, name: $0.name, version: 7) },
        ]
        for change in changes {
            var other = label
            change(&other)
            #expect(other != label)
            #expect(code { _ = try keys.open(sealed, for: other) } == .badSeal)
        }
    }

    @Test("ids in another place of the label are another label")
    func places() throws {
        let id = UniqueID.v7(at: Instant(seconds: 5))
        let labels = [
            SecretLabel(kind: .smtp, partner: PartnerID(id), name: "n", version: 1),
            SecretLabel(kind: .smtp, organization: OrganizationID(id), name: "n", version: 1),
            SecretLabel(kind: .smtp, site: SiteID(id), name: "n", version: 1),
        ]
        for label in labels {
            let sealed = try keys.seal(secret, for: label)
            for other in labels {
                #expect(code { _ = try keys.open(sealed, for: other) } == (other == label ? nil : .badSeal))
            }
        }
    }

    @Test("what an older key sealed opens and is to be sealed anew; what it never sealed does not")
    func ring() throws {
        let sealed = try SealingKeys(current: old).seal(secret, for: label)
        #expect(try keys.open(sealed, for: label) == secret)
        #expect(keys.needsResealing(sealed))
        let again = try keys.seal(keys.open(sealed, for: label), for: label)
        #expect(!keys.needsResealing(again) && again.keyID == "2026-a")
        #expect(code { _ = try SealingKeys(current: new).open(sealed, for: label) } == .unknownKey)
        // Under the same id another key.
        let stranger = try SealingKeys.Key(id: "2025", secret: SecretBytes(random: 32))
        let strange = try SealingKeys(current: new, older: [stranger])
        #expect(code { _ = try strange.open(sealed, for: label) } == .badSeal)
    }

    @Test("the id of the key is sealed too: the same key under another id does not open")
    func keyID() throws {
        let renamed = try SealingKeys(current: SealingKeys.Key(id: "2027", secret: old.secret))
        var bytes = try SealingKeys(current: old).seal(secret, for: label).bytes
        bytes[5] = UInt8(ascii: "7")
        let sealed = try SealedSecret(bytes: bytes)
        #expect(sealed.keyID == "2027")
        #expect(code { _ = try renamed.open(sealed, for: label) } == .badSeal)
    }

    @Test("every flipped bit is refused")
    func flips() throws {
        let bytes = try keys.seal(secret, for: label).bytes
        var codes: Set<TrustError.Code> = []
        for index in bytes.indices {
            for bit in 0..<8 {
                var flipped = bytes
                flipped[index] ^= 1 << bit
                let code = code { _ = try keys.open(SealedSecret(bytes: flipped), for: label) }
                codes.insert(try #require(code, "bit \(bit) of byte \(index) may be flipped"))
            }
        }
        #expect(codes == [.malformed, .unknownKey, .badSeal])
    }

    @Test("cut and lengthened bytes are refused")
    func lengths() throws {
        let bytes = try keys.seal(secret, for: label).bytes
        for count in 0..<bytes.count {
            let cut = Array(bytes.prefix(count))
            let code = code { _ = try keys.open(SealedSecret(bytes: cut), for: label) }
            #expect(code == (count < 8 + 12 + 1 + 16 ? .malformed : .badSeal))
        }
        #expect(code { _ = try keys.open(SealedSecret(bytes: bytes + [0]), for: label) } == .badSeal)
    }

    @Test("garbage is refused")
    func garbage() {
        for count in 0..<200 {
            let bytes = [1, UInt8(count % 40)] + randomBytes(count)
            #expect(code { _ = try keys.open(SealedSecret(bytes: bytes), for: label) } != nil)
            #expect(code { _ = try SealedSecret(bytes: Array(bytes.dropFirst(2))) } != nil || count > 30)
        }
    }

    @Test("a secret has 1 to 65536 bytes, sealed and read")
    func limits() throws {
        for count in [1, 65_536] {
            let secret = SecretBytes(random: count)
            let sealed = try SealedSecret(bytes: keys.seal(secret, for: label).bytes)
            #expect(try keys.open(sealed, for: label) == secret)
        }
        for count in [0, 65_537] {
            #expect(code { _ = try keys.seal(SecretBytes(random: count), for: label) } == .limit)
            let bytes = [1, 1, UInt8(ascii: "a")] + [UInt8](repeating: 0, count: 12 + count + 16)
            #expect(code { _ = try SealedSecret(bytes: bytes) } == .malformed)
        }
    }

    @Test("a key has 32 bytes and an id of 1 to 32 lower-case letters, digits and hyphens")
    func keyLimits() throws {
        let good = SecretBytes(random: 32)
        for id in ["a", String(repeating: "z", count: 32), "2026-11"] {
            _ = try SealingKeys.Key(id: id, secret: good)
        }
        for id in ["", String(repeating: "z", count: 33), "A", "a b", "a_b", "é", "a\0"] {
            #expect(code { _ = try SealingKeys.Key(id: id, secret: good) } == .malformed)
        }
        for count in [31, 33] {
            #expect(
                code { _ = try SealingKeys.Key(id: "a", secret: SecretBytes(random: count)) } == .malformed)
        }
    }

    @Test("two keys of a ring have different ids and bytes")
    func duplicates() throws {
        let sameID = try SealingKeys.Key(id: new.id, secret: SecretBytes(random: 32))
        let sameBytes = try SealingKeys.Key(id: "other", secret: SecretBytes(new.secret.copy()))
        for other in [sameID, sameBytes] {
            #expect(code { _ = try SealingKeys(current: new, older: [old, other]) } == .malformed)
        }
    }
}
