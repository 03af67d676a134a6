import COpenSSL
import Wire

/// A public key of an issuer that is good for exactly one algorithm.
package struct JSONWebKey: Sendable {
    /// What a key signs by: the key says it, not the token.
    package enum Algorithm: String, Sendable {
        /// RSA with PKCS#1 v1.5 and SHA-256.
        case rs256 = "RS256"
        /// ECDSA on P-256 with SHA-256.
        case es256 = "ES256"
        /// Ed25519.
        case edDSA = "EdDSA"
    }

    /// Why a key of a set is not used.
    package enum Reason: String, Sendable, CaseIterable {
        /// It is symmetric or private: whoever reads the document has it.
        case secret
        case malformed, badID, unknownKind, otherPurpose, otherAlgorithm, badModulus, badExponent, badPoint
    }

    struct Unusable: Error {
        let reason: Reason

        init(_ reason: Reason) { self.reason = reason }
    }

    private enum Material: Sendable {
        case rsa(Owned)
        case p256(P256PublicKey)
        case ed25519(VerifyingKey)
    }

    /// Its name within the set.
    package let id: String
    private let material: Material

    /// What it signs by.
    package var algorithm: Algorithm {
        switch material {
        case .rsa: .rs256
        case .p256: .es256
        case .ed25519: .edDSA
        }
    }

    /// The members that only a symmetric or private key has (RFC 7518, 6; RFC 8037).
    private static let secretMembers = ["d", "p", "q", "dp", "dq", "qi", "oth", "k"]

    /// Reads a member of a set (RFC 7517, 4).
    init(_ json: JSON) throws(Unusable) {
        guard case .object = json, case .string(let kind)? = json.member("kty") else {
            throw Unusable(.malformed)
        }
        guard kind != "oct", !Self.secretMembers.contains(where: { json.member($0) != nil }) else {
            throw Unusable(.secret)
        }
        guard case .string(let id)? = json.member("kid"), Self.isName(id) else { throw Unusable(.badID) }
        self.id = id
        if let use = json.member("use"), use != .string("sig") { throw Unusable(.otherPurpose) }
        if let operations = json.member("key_ops"), operations != .array([.string("verify")]) {
            throw Unusable(.otherPurpose)
        }
        switch (kind, json.member("crv")) {
        case ("RSA", nil): material = .rsa(try Self.rsa(json))
        case ("EC", .string("P-256")?): material = .p256(try Self.p256(json))
        case ("OKP", .string("Ed25519")?): material = .ed25519(try Self.ed25519(json))
        default: throw Unusable(.unknownKind)
        }
        if let name = json.member("alg"), name != .string(algorithm.rawValue) {
            guard algorithm == .edDSA, name == .string("Ed25519") else { throw Unusable(.otherAlgorithm) }
        }
    }

    /// Whether a text can be a key's name: 1 to 256 printable characters of ASCII. It is only compared.
    static func isName(_ text: String) -> Bool {
        (1...256).contains(text.utf8.count) && text.utf8.allSatisfy { (0x21...0x7E).contains($0) }
    }

    // MARK: Material

    private static func bytes(_ json: JSON, _ name: String) throws(Unusable) -> [UInt8] {
        guard case .string(let text)? = json.member(name), let bytes = Base64URL.decode(text) else {
            throw Unusable(.malformed)
        }
        return bytes
    }

    private static func p256(_ json: JSON) throws(Unusable) -> P256PublicKey {
        let (x, y) = (try bytes(json, "x"), try bytes(json, "y"))
        guard x.count == 32, y.count == 32 else { throw Unusable(.badPoint) }
        do { return try P256PublicKey(point: [4] + x + y) } catch { throw Unusable(.badPoint) }
    }

    private static func ed25519(_ json: JSON) throws(Unusable) -> VerifyingKey {
        do { return try VerifyingKey(bytes: bytes(json, "x")) } catch let error as Unusable {
            throw error
        } catch { throw Unusable(.badPoint) }
    }

    private static func rsa(_ json: JSON) throws(Unusable) -> Owned {
        let (modulus, exponent) = (try bytes(json, "n"), try bytes(json, "e"))
        guard let first = modulus.first, first != 0, exponent.first != 0 else { throw Unusable(.malformed) }
        let bits = modulus.count * 8 - first.leadingZeroBitCount
        guard (2_048...8_192).contains(bits), modulus.last.map({ $0 & 1 == 1 }) == true else {
            throw Unusable(.badModulus)
        }
        let value = exponent.count > 4 ? 0 : exponent.reduce(UInt64(0)) { $0 << 8 | UInt64($1) }
        guard value >= 65_537, value & 1 == 1 else { throw Unusable(.badExponent) }
        let der = DER.rsaKey(modulus: modulus, exponent: exponent)
        do {
            return try unsafe der.withUnsafeBufferPointer { buffer throws(TrustError) in
                var cursor = buffer.baseAddress
                return try unsafe Owned(
                    d2i_PUBKEY(nil, &cursor, buffer.count), EVP_PKEY_free, "read an RSA key", as: .malformed)
            }
        } catch { throw Unusable(.badModulus) }
    }

    // MARK: Judging

    /// Whether a signature is this key's over a message. Only 1 from the library means yes.
    func isValid(_ signature: [UInt8], for message: [UInt8]) -> Bool {
        switch material {
        case .ed25519(let key): return key.isValid(signature, for: message)
        case .p256(let key):
            guard let der = DER.ecdsaSignature(raw: signature) else { return false }
            return unsafe Self.isValid(der, for: message, by: key.key.pointer, isRSA: false)
        case .rsa(let key): return unsafe Self.isValid(signature, for: message, by: key.pointer, isRSA: true)
        }
    }

    private static func isValid(
        _ signature: [UInt8], for message: [UInt8], by key: OpaquePointer, isRSA: Bool
    ) -> Bool {
        guard let context = unsafe EVP_MD_CTX_new() else { return false }
        defer { unsafe EVP_MD_CTX_free(context) }
        defer { ERR_clear_error() }
        var keyContext: OpaquePointer?
        guard unsafe EVP_DigestVerifyInit(context, &keyContext, EVP_sha256(), nil, key) == 1 else {
            return false
        }
        if isRSA {
            guard unsafe EVP_PKEY_CTX_set_rsa_padding(keyContext, RSA_PKCS1_PADDING) == 1 else {
                return false
            }
        }
        return unsafe EVP_DigestVerify(context, signature, signature.count, message, message.count) == 1
    }
}

/// The few forms of DER (X.690) that keys and signatures of a JWT are brought into.
private enum DER {
    /// n of the group of P-256 (FIPS 186-5).
    private static let order =
        Hex.decode("ffffffff00000000ffffffffffffffffbce6faada7179e84f3b9cac2fc632551") ?? []

    /// ECDSA-Sig-Value of r and s, 32 bytes each; `nil` for another length, and for what is not in 1..<n.
    static func ecdsaSignature(raw: [UInt8]) -> [UInt8]? {
        guard raw.count == 64 else { return nil }
        let (r, s) = (Array(raw[..<32]), Array(raw[32...]))
        for number in [r, s] {
            guard number.contains(where: { $0 != 0 }), number.lexicographicallyPrecedes(order) else {
                return nil
            }
        }
        return tagged(0x30, integer(r) + integer(s))
    }

    /// SubjectPublicKeyInfo of an RSA key (RFC 8017, A.1.1; RFC 3279, 2.3.1).
    static func rsaKey(modulus: [UInt8], exponent: [UInt8]) -> [UInt8] {
        let algorithm = Hex.decode("300d06092a864886f70d0101010500") ?? []
        return tagged(
            0x30,
            algorithm + tagged(0x03, [0] + tagged(0x30, integer(modulus) + integer(exponent))))
    }

    private static func integer(_ number: [UInt8]) -> [UInt8] {
        let digits = Array(number.drop { $0 == 0 })
        return tagged(0x02, (digits.first ?? 0x80) >= 0x80 ? [0] + digits : digits)
    }

    private static func tagged(_ tag: UInt8, _ content: [UInt8]) -> [UInt8] {
        guard content.count >= 0x80 else { return [tag, UInt8(content.count)] + content }
        var length: [UInt8] = []
        var left = content.count
        while left > 0 {
            length.insert(UInt8(truncatingIfNeeded: left), at: 0)
            left >>= 8
        }
        return [tag, 0x80 | UInt8(length.count)] + length + content
    }
}
