import Wire

/// The public keys of one issuer (RFC 7517): good for tokens of this issuer and of no other.
///
/// A key that is not understood, weak, symmetric or private is passed over; a token that names one is
/// refused.
package struct JSONWebKeySet: Sendable {
    /// A key that is not used, and why.
    package struct PassedOver: Sendable, Equatable {
        /// Its name, if it has one that can be one.
        package let id: String?
        package let reason: JSONWebKey.Reason
    }

    /// The most bytes of a document.
    package static let bytesMax = 256 << 10
    /// The most keys of a document.
    package static let keysMax = 100

    /// Whose keys they are.
    package let issuer: String
    /// The keys that can be used, in the document's order.
    package let keys: [JSONWebKey]
    /// The others.
    package let passedOver: [PassedOver]

    /// Reads a document; throws `malformed` for what is none, and `limit` for more than may be in one.
    package init(document: [UInt8], issuer: String) throws(TrustError) {
        guard document.count <= Self.bytesMax else {
            throw TrustError(
                .limit, "a set of keys has at most \(Self.bytesMax) bytes, not \(document.count)")
        }
        let json: JSON
        do { json = try JSON.parse(document, depthMax: 8, valuesMax: 10_000) } catch {
            throw TrustError(.malformed, "a set of keys is no JSON: \(error)")
        }
        guard case .array(let members)? = json.member("keys") else {
            throw TrustError(.malformed, "a set of keys is an object with an array \"keys\"")
        }
        guard members.count <= Self.keysMax else {
            throw TrustError(.limit, "a set has at most \(Self.keysMax) keys, not \(members.count)")
        }
        var (keys, passedOver): ([JSONWebKey], [PassedOver]) = ([], [])
        for member in members {
            do throws(JSONWebKey.Unusable) {
                keys.append(try JSONWebKey(member))
            } catch {
                var id: String?
                if case .string(let text)? = member.member("kid"), JSONWebKey.isName(text) { id = text }
                passedOver.append(PassedOver(id: id, reason: error.reason))
            }
        }
        self.issuer = issuer
        self.keys = keys
        self.passedOver = passedOver
    }

    /// Whether the document names such a key, usable or not.
    package func names(_ keyID: String) -> Bool {
        keys.contains { isSame($0.id, keyID) }
            || passedOver.contains { $0.id.map { isSame($0, keyID) } ?? false }
    }

    /// The one key of a name.
    func key(_ id: String) throws(JWTRefusal) -> JSONWebKey {
        let found = keys.filter { isSame($0.id, id) }
        let isSpoiled = passedOver.contains { $0.id.map { isSame($0, id) } ?? false }
        guard found.count + (isSpoiled ? 1 : 0) <= 1 else { throw JWTRefusal(.ambiguousKey) }
        guard let key = found.first else { throw JWTRefusal(isSpoiled ? .unusableKey : .unknownKey) }
        return key
    }
}
