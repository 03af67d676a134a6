// The signed bytes of every statement, integers big endian:
//
//     offset  bytes  field
//     0       n      "cloudrmm." type ".v1" NUL
//     n       8      id of the signing key (first 8 bytes of the SHA-256 of its public key)
//     n+8     16     deployment
//     n+24    16     organization, zero for none
//     n+40    8      issued at, seconds since 1970, signed
//     n+48    8      expires at, seconds since 1970, signed
//     n+56    4      length of the payload
//     n+60    …      payload; nothing follows it
//
// On the wire (`encoded`): length of the signed bytes (4), signed bytes, Ed25519 signature over them (64).
// The type stands in the prefix, so a signature made for one type never holds for another.

/// What a statement is about; the closed list of TRUST.md.
package struct StatementType: RawRepresentable, Sendable, Hashable {
    /// The word in the signed prefix.
    package let rawValue: String

    /// Any word; only the types below are verified anywhere.
    package init(rawValue: String) { self.rawValue = rawValue }

    /// Leave to enrol one or some devices into a site.
    package static let enrolmentToken = StatementType(rawValue: "token")
    /// The keys and CAs that are in force.
    package static let keySet = StatementType(rawValue: "keyset")
    /// Where a device belongs.
    package static let assignment = StatementType(rawValue: "assignment")
    /// One execution.
    package static let job = StatementType(rawValue: "job")
    /// What an export of an organization holds; no agent takes it.
    package static let export = StatementType(rawValue: "export")

    var prefix: [UInt8] { Array("cloudrmm.\(rawValue).v1".utf8) + [0] }
}

/// What a key said: the content of a signed statement, readable only after its signature held.
package struct Statement: Sendable, Equatable {
    /// The largest payload that is accepted.
    package static let payloadBytesMax = 4 << 20
    /// How far the issue time may lie in the reader's future.
    package static let issueToleranceSeconds: Int64 = 300
    /// The organization of a statement that belongs to none.
    package static let noOrganization = [UInt8](repeating: 0, count: 16)

    /// What it is about.
    package var type: StatementType
    /// `VerifyingKey.id` of the signer.
    package var keyID: String
    /// The 16 bytes of the deployment's id.
    package var deployment: [UInt8]
    /// The 16 bytes of the organization's id, or zero.
    package var organization: [UInt8]
    /// Seconds since 1970.
    package var issuedAt: Int64
    /// Seconds since 1970; at this second the statement is no longer valid.
    package var expiresAt: Int64
    /// The content in the encoding of its type.
    package var payload: [UInt8]

    /// A statement to be signed. The ids have 16 bytes each; `sign` puts its own key's id for `keyID`.
    package init(
        type: StatementType, keyID: String = "", deployment: [UInt8], organization: [UInt8] = noOrganization,
        issuedAt: Int64, expiresAt: Int64, payload: [UInt8]
    ) {
        precondition(deployment.count == 16 && organization.count == 16, "an id has 16 bytes")
        self.type = type
        self.keyID = keyID
        self.deployment = deployment
        self.organization = organization
        self.issuedAt = issuedAt
        self.expiresAt = expiresAt
        self.payload = payload
    }
}

/// An Ed25519 key that signs statements, whichever library does the arithmetic.
package protocol StatementKey: Sendable {
    /// The key that verifies what this one signs.
    var publicKey: VerifyingKey { get }
    /// The signature of `message`, 64 bytes.
    func sign(_ message: [UInt8]) -> [UInt8]
}

/// A statement with its signature: bytes to be carried about, and believed only through `verified`.
package struct SignedStatement: Sendable, Equatable {
    /// The exact signed bytes.
    package var bytes: [UInt8]
    /// The Ed25519 signature over `bytes`, 64 bytes.
    package var signature: [UInt8]

    /// Puts parts together that were stored apart.
    package init(bytes: [UInt8], signature: [UInt8]) {
        self.bytes = bytes
        self.signature = signature
    }

    /// Signs `statement`; the key id written is that of `key`, whatever the statement says.
    package static func sign(_ statement: Statement, with key: some StatementKey) -> SignedStatement {
        let bytes = bytes(of: statement, by: key.publicKey)
        return SignedStatement(bytes: bytes, signature: key.sign(bytes))
    }

    /// Has `statement` signed by somebody else who holds the private part of `key`: `sign` is given the exact
    /// bytes. Throws `badSignature` for what does not hold under the key, and whatever `sign` throws.
    package static func sign(
        _ statement: Statement, as key: VerifyingKey, by sign: ([UInt8]) async throws -> [UInt8]
    ) async throws -> SignedStatement {
        let bytes = bytes(of: statement, by: key)
        let signature = try await sign(bytes)
        guard key.isValid(signature, for: bytes) else {
            throw TrustError(.badSignature, "the signature does not hold under the key \(key.id)")
        }
        return SignedStatement(bytes: bytes, signature: signature)
    }

    /// The id of the key that the bytes of a statement of this type name; it says nothing about who signed.
    package func keyID(as type: StatementType) -> String? {
        guard bytes.starts(with: type.prefix) else { return nil }
        let id = bytes.dropFirst(type.prefix.count).prefix(8)
        return id.count == 8 ? Hex.encode(id) : nil
    }

    private static func bytes(of statement: Statement, by key: VerifyingKey) -> [UInt8] {
        var bytes = statement.type.prefix
        bytes += SHA256.hash(key.bytes).prefix(8)
        bytes += statement.deployment
        bytes += statement.organization
        bytes.append(bigEndian: statement.issuedAt)
        bytes.append(bigEndian: statement.expiresAt)
        bytes.append(bigEndian: UInt32(statement.payload.count))
        bytes += statement.payload
        return bytes
    }

    /// The content, once the signature holds under the one of `keys` that the bytes name.
    ///
    /// Before that only prefix and key id are looked at. Afterwards type, shape, validity at `now` (seconds
    /// since 1970), deployment and, unless nil, organization must fit; each refusal has its own code.
    package func verified(
        as type: StatementType, by keys: [VerifyingKey], deployment: [UInt8], now: Int64,
        organization: [UInt8]?
    ) throws(TrustError) -> Statement {
        let prefix = type.prefix
        guard bytes.count <= prefix.count + Self.headerByteCount + Statement.payloadBytesMax else {
            throw TrustError(.limit, "a statement carries at most \(Statement.payloadBytesMax) bytes")
        }
        guard bytes.starts(with: prefix) else {
            throw TrustError(.wrongType, "not a statement \(type.rawValue)")
        }
        var rest = bytes.dropFirst(prefix.count)
        guard let keyBytes = rest.take(8) else {
            throw TrustError(.malformed, "the statement ends in its header")
        }
        let keyID = Hex.encode(keyBytes)
        let candidates = keys.filter { $0.id == keyID }
        guard !candidates.isEmpty else { throw TrustError(.unknownKey, "no trusted key has the id \(keyID)") }
        guard candidates.contains(where: { $0.isValid(signature, for: bytes) }) else {
            throw TrustError(.badSignature, "the signature by key \(keyID) does not hold")
        }
        let statement = try Self.parse(rest, type: type, keyID: keyID)
        guard statement.deployment == deployment else {
            throw TrustError(.wrongDeployment, "the statement belongs to another deployment")
        }
        guard organization == nil || organization == statement.organization else {
            throw TrustError(.wrongOrganization, "the statement belongs to another organization")
        }
        guard statement.issuedAt <= now + Statement.issueToleranceSeconds else {
            throw TrustError(.notYetValid, "the statement was issued in the future, at \(statement.issuedAt)")
        }
        guard now < statement.expiresAt else {
            throw TrustError(.expired, "the statement expired at \(statement.expiresAt)")
        }
        return statement
    }

    private static let headerByteCount = 60

    private static func parse(
        _ header: ArraySlice<UInt8>, type: StatementType, keyID: String
    ) throws(TrustError) -> Statement {
        var rest = header
        guard let deployment = rest.take(16), let organization = rest.take(16),
            let issuedAt = rest.takeInteger(Int64.self), let expiresAt = rest.takeInteger(Int64.self),
            let length = rest.takeInteger(UInt32.self), rest.count == Int(length), issuedAt < expiresAt
        else { throw TrustError(.malformed, "the signed bytes do not have the shape of a statement") }
        return Statement(
            type: type, keyID: keyID, deployment: deployment, organization: organization,
            issuedAt: issuedAt, expiresAt: expiresAt, payload: Array(rest))
    }
}

extension SignedStatement {
    /// One blob: length of the signed bytes, the bytes, the signature.
    package var encoded: [UInt8] {
        var blob: [UInt8] = []
        blob.reserveCapacity(4 + bytes.count + signature.count)
        blob.append(bigEndian: UInt32(bytes.count))
        blob += bytes
        blob += signature
        return blob
    }

    /// Splits a blob; throws `malformed` unless the lengths fit exactly, `limit` when it is too large.
    package init(encoded: [UInt8]) throws(TrustError) {
        guard encoded.count <= Statement.payloadBytesMax + 512 else {
            throw TrustError(.limit, "a statement carries at most \(Statement.payloadBytesMax) bytes")
        }
        var rest = encoded[...]
        guard let length = rest.takeInteger(UInt32.self), let bytes = rest.take(Int(length)),
            rest.count == VerifyingKey.signatureByteCount
        else { throw TrustError(.malformed, "the lengths of this signed statement do not fit") }
        self.init(bytes: bytes, signature: Array(rest))
    }

    /// The blob as base64url.
    package var text: String { Base64URL.encode(encoded) }

    /// Reads the text form; throws as `init(encoded:)`.
    package init(text: String) throws(TrustError) {
        guard text.utf8.count <= (Statement.payloadBytesMax + 512) * 4 / 3 + 4 else {
            throw TrustError(.limit, "a statement carries at most \(Statement.payloadBytesMax) bytes")
        }
        guard let encoded = Base64URL.decode(text) else {
            throw TrustError(.malformed, "a statement's text is base64url without padding")
        }
        try self.init(encoded: encoded)
    }
}
