/// A secret that means nothing by itself and opens one row: a prefix that says what it is for, and 32 random
/// bytes in base64url. Only its hash is kept.
package struct OpaqueSecret: Sendable, Equatable {
    /// What a secret is for; the raw value is the prefix of its text.
    package enum Kind: String, Sendable, CaseIterable {
        case apiKey = "crmm_"
        case session = "crmm_session_"
        case invitation = "crmm_invitation_"
        case resetLink = "crmm_reset_"
        case deviceCode = "crmm_device_"

        /// The length of a text of this kind, which no other kind with the same beginning has.
        var textByteCount: Int { rawValue.utf8.count + (OpaqueSecret.byteCount * 4 + 2) / 3 }
    }

    /// The number of random bytes.
    package static let byteCount = 32

    /// What it is for.
    package let kind: Kind
    private let bytes: SecretBytes

    /// A new secret.
    package init(_ kind: Kind) {
        self.kind = kind
        bytes = SecretBytes(random: Self.byteCount)
    }

    /// The secret of this kind that has this text; nil for any other text, so that a secret of one kind is
    /// never taken for one of another.
    package init?(_ kind: Kind, text: String) {
        guard text.utf8.count == kind.textByteCount, text.utf8.starts(with: kind.rawValue.utf8),
            let bytes = Base64URL.decode(String(Substring(text.utf8.dropFirst(kind.rawValue.utf8.count)))),
            bytes.count == Self.byteCount
        else { return nil }
        self.kind = kind
        self.bytes = SecretBytes(bytes)
    }

    /// What its owner is shown once.
    package var text: String { kind.rawValue + Base64URL.encode(bytes.copy()) }

    /// SHA-256 over the random bytes: what the row keeps. It needs no salt and no stretching, since nobody
    /// tries 2^256 secrets.
    package var hash: [UInt8] { SHA256.hash(bytes.copy()) }
}
