// A kept password, in the string format of the Password Hashing Competition, base 64 without padding:
//
//     $scrypt$ln=15,r=8,p=3$<salt, 16 bytes>$<key, 32 bytes>
//
// Every hash has exactly one text: numbers without leading zeros, no bits to spare in the base 64.

/// What is kept of a password: scrypt with a salt of its own.
///
/// Passwords are bytes as the caller has them; nothing is normalized. Whoever can type the same word in two
/// ways (é as one code point or two) has two passwords. Zero bytes at the end do not count, since HMAC fills
/// up with them.
///
/// Making one and verifying block the thread for a third of a second and take 32 MiB each: off the
/// threads that Swift's tasks share, and only so many at once.
package struct PasswordHash: Sendable, Hashable {
    /// The length of a salt in bytes.
    package static let saltByteCount = 16
    /// The length of a derived key in bytes.
    package static let keyByteCount = 32
    /// The longest text that is looked at.
    package static let textBytesMax = 128

    /// The hash of no password, for accounts that do not exist: verifying against it costs what it costs for
    /// one that does, and is never true.
    package static let dummy = PasswordHash(
        cost: .standard, salt: randomBytes(saltByteCount), key: randomBytes(keyByteCount))

    private let cost: Scrypt
    private let salt: [UInt8]
    private let key: [UInt8]

    /// The hash of a password with a new salt, at the standard cost unless a test wants another; throws
    /// `library` when the memory is not to be had.
    package init(of password: [UInt8], cost: Scrypt = .standard) throws(TrustError) {
        let salt = randomBytes(Self.saltByteCount)
        let key = try cost.derive(password: password, salt: salt, count: Self.keyByteCount)
        self.init(cost: cost, salt: salt, key: key)
    }

    /// The hash of its text; throws `malformed`, and `limit` where it costs more than ``Scrypt`` allows.
    package init(_ text: String) throws(TrustError) {
        let fields = text.utf8.split(separator: UInt8(ascii: "$"), omittingEmptySubsequences: false)
        guard text.utf8.count <= Self.textBytesMax, fields.count == 5, fields[0].isEmpty,
            fields[1].elementsEqual("scrypt".utf8),
            let (log2N, r, p) = Self.parameters(fields[2]),
            let salt = PHCBase64.decode(fields[3]), salt.count == Self.saltByteCount,
            let key = PHCBase64.decode(fields[4]), key.count == Self.keyByteCount
        else { throw TrustError(.malformed, "a kept password is not of the form $scrypt$ln=,r=,p=$salt$key") }
        self.init(cost: try Scrypt(log2N: log2N, r: r, p: p), salt: salt, key: key)
    }

    private init(cost: Scrypt, salt: [UInt8], key: [UInt8]) {
        (self.cost, self.salt, self.key) = (cost, salt, key)
    }

    /// The text that is kept.
    package var encoded: String {
        "$scrypt$ln=\(cost.log2N),r=\(cost.r),p=\(cost.p)$\(PHCBase64.encode(salt))$\(PHCBase64.encode(key))"
    }

    /// Whether this is the password; compares in constant time. Throws `library` when the memory is not to be
    /// had, which says nothing about the password.
    package func verifies(_ password: [UInt8]) throws(TrustError) -> Bool {
        constantTimeEqual(
            key, try cost.derive(password: password, salt: salt, count: Self.keyByteCount))
    }

    /// Whether it was made at another cost than new ones are; to be replaced at the next sign-in, when the
    /// password is there.
    package var needsRehash: Bool { cost != .standard }

    /// `ln=`, `r=`, `p=`, in this order, one to three digits each.
    private static func parameters(_ field: Substring.UTF8View) -> (log2N: Int, r: Int, p: Int)? {
        let parts = field.split(separator: UInt8(ascii: ","), omittingEmptySubsequences: false)
        guard parts.count == 3, let log2N = number(parts[0], after: "ln="),
            let r = number(parts[1], after: "r="), let p = number(parts[2], after: "p=")
        else { return nil }
        return (log2N, r, p)
    }

    private static func number(_ part: Substring.UTF8View, after name: String) -> Int? {
        guard part.starts(with: name.utf8) else { return nil }
        let digits = part.dropFirst(name.utf8.count)
        guard 1...3 ~= digits.count, digits.first != UInt8(ascii: "0"),
            digits.allSatisfy({ UInt8(ascii: "0")...UInt8(ascii: "9") ~= $0 })
        else { return nil }
        return digits.reduce(0) { $0 * 10 + Int($1 - UInt8(ascii: "0")) }
    }
}

extension PasswordHash: CustomStringConvertible, CustomDebugStringConvertible, CustomReflectable {
    /// Its cost alone, since who has salt and key can guess.
    package var description: String { "(password hash, ln=\(cost.log2N),r=\(cost.r),p=\(cost.p))" }

    /// Its cost alone.
    package var debugDescription: String { description }

    /// Nothing.
    package var customMirror: Mirror { Mirror(self, children: []) }
}

/// Base 64 with the standard alphabet and no padding.
private enum PHCBase64 {
    static func encode(_ bytes: [UInt8]) -> String {
        swap(Base64URL.encode(bytes).utf8, [(from: "-", to: "+"), (from: "_", to: "/")])
    }

    /// Nil for characters of the other alphabet, and for what `Base64URL` refuses.
    static func decode(_ text: Substring.UTF8View) -> [UInt8]? {
        guard !text.contains(UInt8(ascii: "-")), !text.contains(UInt8(ascii: "_")) else { return nil }
        return Base64URL.decode(swap(text, [(from: "+", to: "-"), (from: "/", to: "_")]))
    }

    private static func swap(
        _ text: some Sequence<UInt8>, _ characters: [(from: Unicode.Scalar, to: Unicode.Scalar)]
    ) -> String {
        let bytes = text.map { byte in
            characters.first { UInt8(ascii: $0.from) == byte }.map { UInt8(ascii: $0.to) } ?? byte
        }
        return String(decoding: bytes, as: UTF8.self)
    }
}
