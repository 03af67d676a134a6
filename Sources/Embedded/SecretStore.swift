import Process
import Synchronization

/// Random secrets, each in a file of its own that only its owner can read, made when first asked for.
final class SecretStore: Sendable {
    private let directory: String
    /// Two who ask for the same new secret at once must get the same one.
    private let writing = Mutex(())

    init(directory: String) throws {
        self.directory = directory
        try Directory.make(directory)
    }

    func has(_ name: String) -> Bool { fileExists("\(directory)/\(name)") }

    /// 43 characters of base64url: 32 random bytes.
    func secret(_ name: String) throws -> String {
        let isPlain = name.utf8.allSatisfy { byte in
            (UInt8(ascii: "a")...UInt8(ascii: "z")).contains(byte) || byte == UInt8(ascii: "-")
                || (UInt8(ascii: "0")...UInt8(ascii: "9")).contains(byte)
        }
        guard isPlain, !name.isEmpty else {
            throw EmbeddedError(
                .secret, "a secret's name has small letters, digits and hyphens only: \(name)")
        }
        let path = "\(directory)/\(name)"
        return try writing.withLock { _ in
            if !fileExists(path) {
                let text = SecretStore.base64URL(try randomBytes(32))
                try DurableFile.write(Array(text.utf8), to: path, mode: 0o600)
            }
            guard FileStatus(path)?.mode == 0o600 else {
                throw EmbeddedError(.secret, "\(path) must have mode 0600: others may have read the secret")
            }
            let text = String(decoding: try readFile(path, max: 4096), as: UTF8.self)
            guard text.utf8.count == 43 else {
                throw EmbeddedError(.secret, "\(path) does not hold a secret of 43 characters")
            }
            return text
        }
    }

    static func base64URL(_ bytes: [UInt8]) -> String {
        let alphabet = Array("ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-_".utf8)
        var text: [UInt8] = []
        for start in stride(from: 0, to: bytes.count, by: 3) {
            let group = bytes[start..<min(start + 3, bytes.count)]
            let bits = group.reduce(UInt32(0)) { $0 << 8 | UInt32($1) } << UInt32(8 * (3 - group.count))
            for index in 0...group.count { text.append(alphabet[Int(bits >> UInt32(18 - 6 * index)) & 63]) }
        }
        return String(decoding: text, as: UTF8.self)
    }
}
