import Domain
import Ledger
import Trust

/// The secret of an API key: `crmm_` and 32 random bytes in base64url. Only its SHA-256 is kept.
struct APIKeySecret {
    static let prefix = "crmm_"
    static let byteCount = 32

    private let bytes: [UInt8]

    /// A new secret.
    init() { bytes = randomBytes(Self.byteCount) }

    /// The secret of its text; `nil` for anything else.
    init?(_ text: String) {
        guard text.utf8.count == Self.prefix.utf8.count + 43, text.hasPrefix(Self.prefix),
            let bytes = Base64URL.decode(String(text.dropFirst(Self.prefix.count))),
            bytes.count == Self.byteCount
        else { return nil }
        self.bytes = bytes
    }

    var text: String { Self.prefix + Base64URL.encode(bytes) }
    var hash: [UInt8] { SHA256.hash(bytes) }
}

extension APIKeyRow {
    /// What the row's MAC covers: every column that says what the key may do, where and until when. The
    /// permissions stand last, since their number varies.
    var sealedParts: [[UInt8]] {
        [
            Array("api_keys".utf8), id.bytes, Array(macKey.utf8), keyHash, partner?.bytes ?? [],
            organization?.bytes ?? [], site?.bytes ?? [], Array(name.utf8),
            Array(String(expiresAt.microseconds).utf8),
        ] + permissions.map { Array($0.utf8) }
    }

    /// The level that the row names; `nil` if it names more than one.
    var level: Level? {
        switch (partner, organization, site) {
        case (nil, nil, nil): .platform
        case (let id?, nil, nil): .partner(id)
        case (nil, let id?, nil): .organization(id)
        case (nil, nil, let id?): .site(id)
        default: nil
        }
    }
}
