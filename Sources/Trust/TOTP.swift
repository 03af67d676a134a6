import COpenSSL
package import Domain

/// Time-based one-time passwords (RFC 6238): SHA-1, six digits, steps of 30 s, counted from 1970, since that
/// is what all authenticator apps know.
package struct TOTP: Sendable, Equatable {
    /// The length of a secret in bytes: that of the digest, as RFC 4226 recommends.
    package static let secretByteCount = 20
    /// How long a code is shown.
    package static let stepSeconds: Int64 = 30
    /// How many digits a code has.
    package static let digitCount = 6
    /// How many steps before and after the present one are accepted, for clocks that differ.
    package static let windowSteps: Int64 = 1

    /// What both sides know.
    package let secret: SecretBytes

    /// A new secret.
    package init() { secret = SecretBytes(random: Self.secretByteCount) }

    /// Takes a kept secret back; throws `malformed` unless it has 20 bytes.
    package init(secret: SecretBytes) throws(TrustError) {
        guard secret.count == Self.secretByteCount else {
            throw TrustError(
                .malformed, "a TOTP secret has \(Self.secretByteCount) bytes, not \(secret.count)")
        }
        self.secret = secret
    }

    /// The code that an app shows at that time.
    package func code(at now: Instant) -> String { code(ofStep: Self.step(at: now)) }

    /// The code of one step: the HOTP value (RFC 4226 §5.3) of that counter.
    package func code(ofStep step: Int64) -> String {
        let mac = unsafe SecretBytes(count: 20) { buffer in
            var counter: [UInt8] = []
            counter.append(bigEndian: step)
            let done = unsafe HMAC(
                EVP_sha1(), secret.address, Int32(secret.count), counter, counter.count, buffer.baseAddress,
                nil)
            precondition(unsafe done != nil, "HMAC failed")
        }
        let value = mac.withBytes { bytes in
            let offset = Int(bytes[19] & 15)
            return (0..<4).reduce(UInt32(0)) { $0 << 8 | UInt32(bytes[offset + $1]) } & 0x7FFF_FFFF
        }
        let digits = String(value % 1_000_000)
        return String(repeating: "0", count: Self.digitCount - digits.count) + digits
    }

    /// The step whose code this is, to be kept as the last accepted one with the sign-in that it lets
    /// through; nil for any other text, and for a code of the last accepted step or an earlier one.
    ///
    /// All steps of the window are computed and compared in constant time. Whoever keeps the step has to do
    /// so only where the kept one is smaller: of two who bring the same code at once, one is let in.
    package func verify(_ code: String, at now: Instant, lastAcceptedStep: Int64?) -> Int64? {
        let present = Self.step(at: now)
        let typed = Array(code.utf8)
        var accepted: Int64?
        for step in present - Self.windowSteps...present + Self.windowSteps {
            let isEqual = constantTimeEqual(typed, Array(self.code(ofStep: step).utf8))
            if isEqual, step > lastAcceptedStep ?? .min { accepted = step }
        }
        return accepted
    }

    /// The address that an app reads from a picture: type, issuer, account and secret. It is as secret as the
    /// secret.
    package func uri(issuer: String, account: String) -> String {
        let (issuer, account) = (percentEncoded(issuer), percentEncoded(account))
        return "otpauth://totp/\(issuer):\(account)?secret=\(Base32.encode(secret.copy()))&issuer=\(issuer)"
            + "&algorithm=SHA1&digits=\(Self.digitCount)&period=\(Self.stepSeconds)"
    }

    /// The number of the step that an instant lies in.
    package static func step(at now: Instant) -> Int64 {
        let seconds = now.seconds
        return seconds >= 0 ? seconds / stepSeconds : (seconds - stepSeconds + 1) / stepSeconds
    }
}

/// The text with all bytes but the unreserved characters of RFC 3986 as `%XX`.
private func percentEncoded(_ text: String) -> String {
    let digits = Array("0123456789ABCDEF".utf8)
    let bytes = text.utf8.flatMap { byte -> [UInt8] in
        switch byte {
        case UInt8(ascii: "a")...UInt8(ascii: "z"), UInt8(ascii: "A")...UInt8(ascii: "Z"),
            UInt8(ascii: "0")...UInt8(ascii: "9"), UInt8(ascii: "-"), UInt8(ascii: "."), UInt8(ascii: "_"),
            UInt8(ascii: "~"):
            [byte]
        default: [UInt8(ascii: "%"), digits[Int(byte >> 4)], digits[Int(byte & 15)]]
        }
    }
    return String(decoding: bytes, as: UTF8.self)
}
