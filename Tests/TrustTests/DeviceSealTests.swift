import Testing

@testable import Trust

@Suite struct DeviceSealTests {
    private let secret = SecretBytes(Array("for one device only".utf8))
    private let device = P256Key()
    private let parts: [[UInt8]] = [Array("db".utf8), Array("password".utf8), [7]]

    @Test("HKDF-SHA-256 gives the keys of RFC 5869, appendix A.1 to A.3")
    func hkdf() throws {
        let ones = SecretBytes([UInt8](repeating: 0x0b, count: 22))
        let first = try hkdfSHA256(secret: ones, salt: Array(0...12), info: Array(0xf0...0xf9), count: 42)
        #expect(
            Hex.encode(first.copy())
                == "3cb25f25faacd57a90434f64d0362f2a2d2d0a90cf1a5a4c5db02d56ecc4c5bf34007208d5b887185865")
        let second = try hkdfSHA256(
            secret: SecretBytes(Array(0...0x4f)), salt: Array(0x60...0xaf), info: Array(0xb0...0xff),
            count: 82)
        #expect(
            Hex.encode(second.copy())
                == "b11e398dc80327a1c8e7f78c596a49344f012eda2d4efad8a050cc4c19afa97c"
                + "59045a99cac7827271cb41c65e590e09da3275600c2f09b8367793a9aca3db71"
                + "cc30c58179ec3e87c14c01d5c1f3434f1d87")
        let third = try hkdfSHA256(secret: ones, info: [], count: 42)
        #expect(
            Hex.encode(third.copy())
                == "8da4e775a563c18f715f802a063c5a31b8a11f5c5ee1879ec3454e5f3c738d2d9d201395faa4b61a96c8")
    }

    @Test("HKDF gives at most 255 digests")
    func hkdfLimit() throws {
        #expect(try hkdfSHA256(secret: secret, info: [], count: 8_160).count == 8_160)
        #expect(code { _ = try hkdfSHA256(secret: secret, info: [], count: 8_161) } == .library)
    }

    @Test("the device opens what was sealed to its key, from its bytes, also with its key from a file")
    func roundTrip() throws {
        let sealed = try DeviceSeal.seal(secret, to: device.publicKey, for: parts)
        let received = try DeviceSeal(bytes: sealed.bytes)
        #expect(received == sealed)
        #expect(try received.open(with: device, for: parts) == secret)
        #expect(try received.open(with: P256Key(pem: device.pem), for: parts) == secret)
        #expect(sealed.bytes.count == 1 + 65 + secret.count + 16)
        #expect(!String(decoding: sealed.bytes, as: UTF8.self).contains("device"))
    }

    @Test("each seal has an ephemeral key of its own")
    func ephemeral() throws {
        let first = try DeviceSeal.seal(secret, to: device.publicKey, for: parts).bytes
        let second = try DeviceSeal.seal(secret, to: device.publicKey, for: parts).bytes
        #expect(first[1..<66] != second[1..<66])
        #expect(first[66...] != second[66...])
    }

    @Test("another device does not open it, nor the device for other parts")
    func others() throws {
        let sealed = try DeviceSeal.seal(secret, to: device.publicKey, for: parts)
        #expect(code { _ = try sealed.open(with: P256Key(), for: parts) } == .badSeal)
        let others: [[[UInt8]]] = [
            [], [Array("db".utf8), Array("password".utf8)], [Array("dbp".utf8), Array("assword".utf8), [7]],
            [Array("db".utf8), Array("password".utf8), [8]], parts + [[]], [Array("dbpassword".utf8) + [7]],
        ]
        for other in others { #expect(code { _ = try sealed.open(with: device, for: other) } == .badSeal) }
    }

    @Test("every flipped bit is refused")
    func flips() throws {
        let bytes = try DeviceSeal.seal(secret, to: device.publicKey, for: parts).bytes
        var codes: Set<TrustError.Code> = []
        for index in bytes.indices {
            for bit in 0..<8 {
                var flipped = bytes
                flipped[index] ^= 1 << bit
                let code = code { _ = try DeviceSeal(bytes: flipped).open(with: device, for: parts) }
                codes.insert(try #require(code, "bit \(bit) of byte \(index) may be flipped"))
            }
        }
        #expect(codes == [.malformed, .badSeal])
    }

    @Test("the same point with y negated, whose x is the same, is refused")
    func negated() throws {
        var bytes = try DeviceSeal.seal(secret, to: device.publicKey, for: parts).bytes
        let prime = try #require(
            Hex.decode("ffffffff00000001000000000000000000000000ffffffffffffffffffffffff"))
        var borrow = 0
        for index in stride(from: 31, through: 0, by: -1) {
            let difference = Int(prime[index]) - Int(bytes[34 + index]) - borrow
            borrow = difference < 0 ? 1 : 0
            bytes[34 + index] = UInt8(truncatingIfNeeded: difference)
        }
        let sealed = try DeviceSeal(bytes: bytes)
        #expect(code { _ = try sealed.open(with: device, for: parts) } == .badSeal)
    }

    @Test("cut and lengthened bytes are refused")
    func lengths() throws {
        let bytes = try DeviceSeal.seal(secret, to: device.publicKey, for: parts).bytes
        for count in 0..<bytes.count {
            let cut = Array(bytes.prefix(count))
            let code = code { _ = try DeviceSeal(bytes: cut).open(with: device, for: parts) }
            #expect(code == (count < 1 + 65 + 1 + 16 ? .malformed : .badSeal))
        }
        #expect(code { _ = try DeviceSeal(bytes: bytes + [0]).open(with: device, for: parts) } == .badSeal)
    }

    @Test("points that are not of the curve, compressed or at infinity are refused")
    func points() throws {
        let point = device.publicKey.point
        #expect(point.count == 65 && point[0] == 4)
        #expect(try P256PublicKey(point: point) == device.publicKey)
        let rest = [UInt8](repeating: 0, count: 17)
        var off = point
        off[64] ^= 1
        let zero = [4] + [UInt8](repeating: 0, count: 64)
        let large = [4] + [UInt8](repeating: 0xFF, count: 64)
        for other in [off, zero, large] {
            #expect(code { _ = try P256PublicKey(point: other) } == .malformed)
            #expect(code { _ = try DeviceSeal(bytes: [1] + other + rest) } == .malformed)
        }
        for first: UInt8 in [0, 2, 3, 6, 7] {
            let other = [first] + point.dropFirst()
            #expect(code { _ = try DeviceSeal(bytes: [1] + other + rest) } == .malformed)
        }
        for der in [[], Array(device.publicKey.der.dropLast()), device.publicKey.der + [0]] {
            #expect(code { _ = try P256PublicKey(der: der) } == .wrongType)
        }
    }

    @Test("a secret has 1 to 65536 bytes, sealed and read")
    func limits() throws {
        for count in [1, 65_536] {
            let secret = SecretBytes(random: count)
            let sealed = try DeviceSeal.seal(secret, to: device.publicKey, for: [])
            #expect(try DeviceSeal(bytes: sealed.bytes).open(with: device, for: []) == secret)
        }
        for count in [0, 65_537] {
            #expect(
                code { _ = try DeviceSeal.seal(SecretBytes(random: count), to: device.publicKey, for: []) }
                    == .limit)
            let bytes = [1] + device.publicKey.point + [UInt8](repeating: 0, count: count + 16)
            #expect(code { _ = try DeviceSeal(bytes: bytes) } == .malformed)
        }
    }

    @Test("the public key is that of the private key and of its hash")
    func publicKey() throws {
        #expect(device.publicKey.hash == device.publicKeyHash)
        #expect(try P256PublicKey(der: device.publicKey.der) == device.publicKey)
        #expect(P256Key().publicKey != device.publicKey)
    }

    @Test("openssl agrees on the same secret")
    func openssl() async throws {
        let folder = try TemporaryFolder()
        let peer = P256Key()
        let own = try folder.write("own.pem", device.pem)
        let other = try folder.write("peer.pem", peer.pem)
        let made = try await Tool.openssl("pkey", "-in", other, "-pubout", "-out", folder.path + "/pub.pem")
        #expect(made.status == 0, "\(made.errors)")
        let result = try await Tool.openssl(
            "pkeyutl", "-derive", "-inkey", own, "-peerkey", folder.path + "/pub.pem", "-hexdump")
        let hex = result.output.split(separator: "\n").flatMap { line in
            line.dropFirst(7).prefix(47).split { $0 == " " || $0 == "-" }
        }
        #expect(try Hex.encode(device.sharedSecret(with: peer.publicKey).copy()) == hex.joined())
        #expect(try device.sharedSecret(with: peer.publicKey) == peer.sharedSecret(with: device.publicKey))
    }
}
