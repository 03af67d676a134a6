import Domain
import Foundation
import Testing

@testable import Trust

/// An issuer with a key of each algorithm, and what else signs tokens that nobody should believe. RSA and
/// ECDSA are OpenSSL's program: another implementation than the one that is tested.
struct TokenForge: Sendable {
    /// The forge of this test run: its RSA key takes a while.
    static let shared = Task { try await TokenForge() }

    static let issuer = "https://id.example"
    static let now = Instant(seconds: 1_900_000_000)

    let folder: TemporaryFolder
    let rsa: (path: String, modulus: [UInt8], pem: String)
    let ec: (path: String, key: P256Key)
    let ed = SigningKey()

    private init() async throws {
        folder = try TemporaryFolder()
        let path = folder.path + "/rsa.pem"
        try #require(try await Tool.openssl("genrsa", "-out", path, "2048").status == 0)
        let text = try await Tool.openssl("rsa", "-in", path, "-noout", "-modulus").output
        let digits = try #require(
            text.split(separator: "=").last?.trimmingCharacters(in: .whitespacesAndNewlines))
        let modulus = try #require(Hex.decode(digits))
        rsa = (
            path, modulus,
            try await Tool.openssl("rsa", "-in", path, "-pubout").output
        )
        let key = P256Key()
        ec = (try folder.write("ec.pem", key.pem), key)
    }

    // MARK: Keys

    func jwk(_ algorithm: JSONWebKey.Algorithm, _ kid: String? = nil, _ more: String = "") -> String {
        let name = kid ?? algorithm.rawValue
        let material =
            switch algorithm {
            case .rs256: Self.rsaMembers(rsa.modulus)
            case .es256: Self.ecMembers(ec.key.publicKey.point)
            case .edDSA: Self.okpMembers(ed.publicKey.bytes)
            }
        return #"{"kid":"\#(name)",\#(material)\#(more)}"#
    }

    static func rsaMembers(_ modulus: [UInt8], e: [UInt8] = [1, 0, 1]) -> String {
        #""kty":"RSA","n":"\#(Base64URL.encode(modulus))","e":"\#(Base64URL.encode(e))""#
    }

    static func ecMembers(_ point: [UInt8], curve: String = "P-256") -> String {
        let (x, y) = (Array(point.dropFirst().prefix(32)), Array(point.dropFirst(33)))
        return #""kty":"EC","crv":"\#(curve)","x":"\#(Base64URL.encode(x))","y":"\#(Base64URL.encode(y))""#
    }

    static func okpMembers(_ bytes: [UInt8], curve: String = "Ed25519") -> String {
        #""kty":"OKP","crv":"\#(curve)","x":"\#(Base64URL.encode(bytes))""#
    }

    /// The set of the three keys, each named as its algorithm.
    func keys() throws -> JSONWebKeySet {
        try Self.set([jwk(.rs256), jwk(.es256), jwk(.edDSA)])
    }

    static func set(_ members: [String], issuer: String = issuer) throws -> JSONWebKeySet {
        try JSONWebKeySet(
            document: Array(#"{"keys":[\#(members.joined(separator: ","))]}"#.utf8), issuer: issuer)
    }

    // MARK: Tokens

    static let claims: [String: String] = [
        "iss": "\"\(issuer)\"", "aud": #""api""#, "sub": #""user_1""#, "iat": "\(now.seconds)",
        "exp": "\(now.seconds + 60)",
    ]

    /// The usual claims with these changed; an empty text takes one away.
    static func claims(_ changes: [String: String] = [:]) -> String {
        let members = claims.merging(changes) { $1 }.filter { !$0.value.isEmpty }
        return "{"
            + members.sorted { $0.key < $1.key }.map { "\"\($0.key)\":\($0.value)" }.joined(separator: ",")
            + "}"
    }

    static func header(_ algorithm: String, kid: String? = nil, _ more: String = "") -> String {
        #"{"alg":"\#(algorithm)","kid":"\#(kid ?? algorithm)"\#(more)}"#
    }

    /// Header and claims as they are signed.
    static func message(_ header: String, _ claims: String) -> String {
        Base64URL.encode(Array(header.utf8)) + "." + Base64URL.encode(Array(claims.utf8))
    }

    static func token(_ message: String, _ signature: [UInt8]) -> String {
        message + "." + Base64URL.encode(signature)
    }

    /// A token that the key of an algorithm signs, whatever its header says.
    func token(
        _ algorithm: JSONWebKey.Algorithm = .edDSA, header: String? = nil, claims: String = claims()
    ) async throws -> String {
        let message = Self.message(header ?? Self.header(algorithm.rawValue), claims)
        return Self.token(message, try await sign(message, algorithm))
    }

    func sign(_ message: String, _ algorithm: JSONWebKey.Algorithm) async throws -> [UInt8] {
        switch algorithm {
        case .edDSA: ed.sign(Array(message.utf8))
        case .rs256: try await digestSignature(message, ["-sha256"])
        case .es256: try Self.raw(await digestSignature(message, ["-sha256"], by: ec.path))
        }
    }

    /// What `openssl dgst` signs, or hashes under a key.
    func digestSignature(_ message: String, _ options: [String], by key: String? = nil) async throws
        -> [UInt8]
    {
        let result = try await Tool.run(
            "openssl", ["dgst", "-hex"] + options + ["-sign", key ?? rsa.path], input: message)
        return try Self.hex(result)
    }

    static func hex(_ result: Tool.Result) throws -> [UInt8] {
        let digits = result.output.split(separator: "=").last ?? ""
        let bytes = try #require(Hex.decode(digits.trimmingCharacters(in: .whitespacesAndNewlines)))
        try #require(!bytes.isEmpty, "\(result.errors)")
        return bytes
    }

    /// A block of the modulus' length to the power of the private exponent.
    func rawRSA(_ block: [UInt8]) async throws -> [UInt8] {
        let path = "\(folder.path)/\(UUID().uuidString)"
        try Data(block).write(to: URL(filePath: path))
        let result = try await Tool.run(
            "sh",
            [
                "-c",
                "openssl pkeyutl -decrypt -inkey '\(rsa.path)' -pkeyopt rsa_padding_mode:none -in '\(path)' "
                    + "| openssl base64 -A",
            ])
        let text = result.output.replacing("+", with: "-").replacing("/", with: "_").replacing("=", with: "")
        let signature = try #require(Base64URL.decode(text))
        try #require(signature.count == 256, "\(result.errors)")
        return signature
    }

    /// r and s, 32 bytes each, of an ECDSA-Sig-Value.
    static func raw(_ der: [UInt8]) throws -> [UInt8] {
        var rest = der.dropFirst(2)
        var numbers: [UInt8] = []
        for _ in 0..<2 {
            try #require(rest.first == 2)
            let length = try #require(rest.dropFirst().first)
            let count = Int(length)
            let number = rest.dropFirst(2).prefix(count).drop { $0 == 0 }
            numbers += Array(repeating: 0, count: 32 - number.count) + number
            rest = rest.dropFirst(2 + count)
        }
        return numbers
    }

    // MARK: Judging

    static func rules(
        audiences: Set<String> = ["api"], parties: Set<String> = [], use: JWTRules.Use = .sessionToken
    ) throws -> JWTRules {
        try JWTRules(
            issuer: issuer, audiences: audiences, authorizedParties: parties, use: use, leewaySeconds: 30,
            lifetimeSecondsMax: 3_600)
    }

    /// Why a token is refused; `nil` if it is believed.
    static func refusal(
        _ token: String, _ keys: JSONWebKeySet, _ rules: JWTRules? = nil, at now: Instant = now
    ) throws -> JWTRefusal.Code? {
        let rules = try rules ?? self.rules()
        do throws(JWTRefusal) {
            _ = try JSONWebToken.verify(token, keys: keys, rules: rules, at: now)
            return nil
        } catch {
            return error.code
        }
    }
}
