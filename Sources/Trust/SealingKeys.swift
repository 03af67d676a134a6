/// The keys of stored secrets: one that seals, and older ones that still open what they sealed.
package struct SealingKeys: Sendable {
    /// One key and its name.
    package struct Key: Sendable {
        /// The length of a key in bytes.
        package static let byteCount = AES256GCM.keyByteCount
        /// The longest id.
        package static let idBytesMax = 32

        /// Its name in what it sealed.
        package let id: String
        let secret: SecretBytes

        /// Takes 32 secret bytes under an id of 1 to 32 lower-case letters, digits and hyphens; throws
        /// `malformed` for another length or name.
        package init(id: String, secret: SecretBytes) throws(TrustError) {
            guard let id = Self.id(of: Array(id.utf8)), secret.count == Self.byteCount else {
                throw TrustError(
                    .malformed, "a sealing key has \(Self.byteCount) bytes and an id of a-z, 0-9 and -")
            }
            (self.id, self.secret) = (id, secret)
        }

        /// The id of these bytes; nil for any that no key can have.
        static func id(of bytes: [UInt8]) -> String? {
            let isID = bytes.allSatisfy { byte in
                UInt8(ascii: "a")...UInt8(ascii: "z") ~= byte || UInt8(ascii: "0")...UInt8(ascii: "9") ~= byte
                    || byte == UInt8(ascii: "-")
            }
            return isID && 1...idBytesMax ~= bytes.count ? String(decoding: bytes, as: UTF8.self) : nil
        }
    }

    private let current: Key
    private let older: [Key]

    /// The keys in force; throws `malformed` when two have the same id or the same bytes.
    package init(current: Key, older: [Key] = []) throws(TrustError) {
        let keys = [current] + older
        for (index, key) in keys.enumerated() {
            guard !keys[..<index].contains(where: { $0.id == key.id || $0.secret == key.secret }) else {
                throw TrustError(.malformed, "two sealing keys are the same or have the id \(key.id)")
            }
        }
        (self.current, self.older) = (current, older)
    }

    /// Seals with the current key; throws `limit` for an empty secret or one over 64 KiB.
    package func seal(_ secret: SecretBytes, for label: SecretLabel) throws(TrustError) -> SealedSecret {
        try SealedSecret(secret, with: current, for: label)
    }

    /// Opens with the key that the secret names; throws `unknownKey` when there is none of that id, and
    /// `badSeal` when it was not sealed with it for this label.
    package func open(_ sealed: SealedSecret, for label: SecretLabel) throws(TrustError) -> SecretBytes {
        guard let key = ([current] + older).first(where: { $0.id == sealed.keyID }) else {
            throw TrustError(.unknownKey, "there is no sealing key \(sealed.keyID)")
        }
        return try sealed.open(with: key, for: label)
    }

    /// What everything begins with that the current key seals.
    package var mark: [UInt8] { SealedSecret.mark(of: current.id) }

    /// Whether another key than the current one sealed it.
    package func needsResealing(_ sealed: SealedSecret) -> Bool { sealed.keyID != current.id }
}
