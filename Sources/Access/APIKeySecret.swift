import Domain
import Ledger
import Trust

/// The secret of an API key: `crmm_` and 32 random bytes in base64url. Only its SHA-256 is kept.
struct APIKeySecret {
    static let prefix = "crmm_"
    static let byteCount = 32
    /// How many characters of the text are shown in lists.
    static let shownCount = 10

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
    /// The first characters, which tell keys apart and open nothing.
    var shown: String { String(text.prefix(Self.shownCount)) }
}
