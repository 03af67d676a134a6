import Domain
import Wire

@testable import Access
@testable import Trust

func checkToken(_ bytes: [UInt8]) {
    let text = String(decoding: bytes, as: UTF8.self)
    // A secret has one text.
    if let secret = APIKeySecret(text) { promise(secret.text == text, "a key has two texts") }
    for kind in OpaqueSecret.Kind.allCases {
        guard let secret = OpaqueSecret(kind, text: text) else { continue }
        promise(secret.text == text, "a secret has two texts")
    }
    if let code = RecoveryCode(text) {
        promise(RecoveryCode(code.text) == code, "a recovery code is written otherwise")
    }
    if let bytes = Base64URL.decode(text) {
        promise(Base64URL.encode(bytes) == text, "bytes have two texts in base64url")
    }
    if let bytes = Base32.decode(text) { promise(Base32.encode(bytes) == text, "bytes have two texts") }
    if let bytes = Hex.decode(text) {
        promise(Hex.encode(bytes) == text.lowercased(), "bytes have two texts")
    }
    _ = Authenticator.isToken(text)
    _ = totp?.verify(text, at: Instant(seconds: 1_700_000_000), lastAcceptedStep: nil)
    if let request = accepted({ try CertificateRequest(pem: text) }) {
        promise(request.publicKeyHash.count == 32, "a hash of a key is too short")
    }
    if let statement = accepted({ try SignedStatement(text: text) }) {
        promise(statement.text == text, "a statement has two texts")
    }
}

private let totp = accepted {
    try TOTP(secret: SecretBytes([UInt8](repeating: 7, count: TOTP.secretByteCount)))
}
