import COpenSSL

/// The keys that seal the tickets of a listener: each seals for one hour and opens for one more, and is made
/// an hour before it is used, so that all processes that read them know it in time.
///
/// Hours are whole ones of the clock. Whoever holds these keys can make tickets in any client's name, for as
/// long as they open: they lie in a file that only gateways read, and are never sent anywhere.
///
/// The file has 88 bytes a key, the oldest first: the second since 1970 at which it begins to seal (8, big
/// endian), its name in a ticket (16), the key of the ticket's code (32), the key of its cipher (32).
package struct TicketKeys: Sendable, Hashable {
    /// How long a key seals.
    package static let periodSeconds: Int64 = 3_600
    /// The length of a key with its begin.
    package static let keyByteCount = 88
    static let nameByteCount = 16

    struct Key: Sendable, Hashable {
        let begin: Int64
        let name: [UInt8]
        let macKey: [UInt8]
        let cipherKey: [UInt8]

        /// A new key for the period that begins then.
        init(begin: Int64) {
            self.begin = begin
            name = randomBytes(TicketKeys.nameByteCount)
            macKey = randomBytes(32)
            cipherKey = randomBytes(32)
        }

        fileprivate init?(_ bytes: inout ArraySlice<UInt8>) {
            guard let begin = bytes.takeInteger(Int64.self),
                let name = bytes.take(TicketKeys.nameByteCount), let macKey = bytes.take(32),
                let cipherKey = bytes.take(32)
            else { return nil }
            (self.begin, self.name, self.macKey, self.cipherKey) = (begin, name, macKey, cipherKey)
        }
    }

    private let keys: [Key]

    /// New keys for this hour and the next.
    package init(at now: Int64) { self = TicketKeys([]).renewed(at: now) }

    /// Takes kept keys back; throws `malformed` for anything else.
    package init(bytes: [UInt8]) throws(TrustError) {
        var rest = bytes[...]
        var keys: [Key] = []
        while !rest.isEmpty, let key = Key(&rest) { keys.append(key) }
        guard rest.isEmpty, !keys.isEmpty, keys.count <= 3 else {
            throw TrustError(
                .malformed, "ticket keys are one to three of \(Self.keyByteCount) bytes, not \(bytes.count)")
        }
        self.keys = keys
    }

    private init(_ keys: [Key]) { self.keys = keys }

    /// What the file holds.
    package var bytes: [UInt8] {
        keys.flatMap { key in
            var bytes: [UInt8] = []
            bytes.append(bigEndian: key.begin)
            return bytes + key.name + key.macKey + key.cipherKey
        }
    }

    /// These keys as they should be now: without those that open nothing any more, with one for this hour and
    /// the next. The same keys while nothing has to change.
    package func renewed(at now: Int64) -> TicketKeys {
        let begin = Self.begin(of: now)
        let next = begin + Self.periodSeconds
        let previous = key(of: begin - Self.periodSeconds).map { [$0] } ?? []
        return TicketKeys(
            previous + [key(of: begin) ?? Key(begin: begin), key(of: next) ?? Key(begin: next)])
    }

    /// The key that seals now: the newest that has begun.
    func sealing(at now: Int64) -> Key { keys.last { $0.begin <= now } ?? keys[0] }

    /// The key of this name, if it still opens.
    func opening(_ name: [UInt8], at now: Int64) -> Key? {
        keys.first { $0.name == name && now < $0.begin + 2 * Self.periodSeconds }
    }

    private func key(of begin: Int64) -> Key? { keys.first { $0.begin == begin } }

    private static func begin(of now: Int64) -> Int64 { now - now % periodSeconds }
}

extension TicketKeys.Key {
    /// Prepares the library to seal a ticket or to open one; the code first, as the manual's example has it.
    func prepare(
        cipher: OpaquePointer?, mac: OpaquePointer?, iv: UnsafeMutablePointer<UInt8>?, seals: Bool
    ) -> Bool {
        guard unsafe crmm_EVP_MAC_CTX_set_HMAC_SHA256(mac, macKey, macKey.count) == 1 else { return false }
        return seals
            ? unsafe EVP_EncryptInit_ex(cipher, EVP_aes_256_cbc(), nil, cipherKey, iv) == 1
            : unsafe EVP_DecryptInit_ex(cipher, EVP_aes_256_cbc(), nil, cipherKey, iv) == 1
    }
}
