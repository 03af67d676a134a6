import COpenSSL

/// Why this room refused something or could not do it.
///
/// `code` is what callers decide by; `message` is one sentence for people, with the whole queue of
/// libcrypto's own errors behind it where the refusal came from there. It never holds key material.
package struct TrustError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The closed set of reasons.
    package struct Code: Sendable, Hashable, CustomStringConvertible {
        private enum Reason: String, Sendable {
            case malformed, badSignature, badSeal
            case expired, notYetValid, wrongType, wrongDeployment, wrongOrganization
            case unknownKey, handshake, refusedCertificate, truncated, timeout, io, limit, library
        }

        private let reason: Reason

        /// Bytes that do not have the shape they claim; in TLS, a bad record.
        package static let malformed = Code(reason: .malformed)
        /// A signature or proof of possession that does not hold.
        package static let badSignature = Code(reason: .badSignature)
        /// A sealed secret whose bytes, label or key are not those that it was sealed with.
        package static let badSeal = Code(reason: .badSeal)
        /// The end of validity has passed.
        package static let expired = Code(reason: .expired)
        /// The begin of validity lies in the future by more than the tolerance.
        package static let notYetValid = Code(reason: .notYetValid)
        /// A statement, key or certificate of another kind than the one asked for.
        package static let wrongType = Code(reason: .wrongType)
        /// A statement of another deployment.
        package static let wrongDeployment = Code(reason: .wrongDeployment)
        /// A statement of another organization.
        package static let wrongOrganization = Code(reason: .wrongOrganization)
        /// A statement by a key that is not among the trusted ones.
        package static let unknownKey = Code(reason: .unknownKey)
        /// The TLS handshake failed for another reason than a certificate.
        package static let handshake = Code(reason: .handshake)
        /// One side of a TLS session did not accept the other's certificate, or got none.
        package static let refusedCertificate = Code(reason: .refusedCertificate)
        /// The connection ended without close_notify.
        package static let truncated = Code(reason: .truncated)
        /// A time limit passed.
        package static let timeout = Code(reason: .timeout)
        /// The socket or the resolver failed.
        package static let io = Code(reason: .io)
        /// Something is larger than it may be.
        package static let limit = Code(reason: .limit)
        /// libcrypto or libssl failed where it should not (out of memory, missing algorithm).
        package static let library = Code(reason: .library)

        /// The code's stable name, as in logs.
        package var description: String { reason.rawValue }
    }

    /// The reason.
    package let code: Code
    /// One sentence, and the library's own messages.
    package let message: String
    /// Source file and line that threw.
    package let location: String

    /// An error of this room's own finding.
    package init(_ code: Code, _ message: String, file: String = #fileID, line: Int = #line) {
        self.code = code
        self.message = message
        location = "\(file):\(line)"
    }

    /// An error that the library reported: drains this thread's whole error queue into the message.
    static func openSSL(
        _ code: Code, _ message: String, file: String = #fileID, line: Int = #line
    ) -> TrustError {
        let queue = OpenSSLErrors.drain().map(\.text)
        let text = queue.isEmpty ? message : "\(message): \(queue.joined(separator: "; "))"
        return TrustError(code, text, file: file, line: line)
    }

    /// Code, message and place on one line.
    package var description: String { "\(code): \(message) (\(location))" }
}

/// The calling thread's queue of library errors.
enum OpenSSLErrors {
    /// One entry: the reason number within its library, and the library's sentence.
    struct Entry {
        let reason: Int
        let text: String
    }

    /// Takes all entries, oldest first.
    static func drain() -> [Entry] {
        var entries: [Entry] = []
        while case let number = ERR_get_error(), number != 0 {
            var text = [CChar](repeating: 0, count: 256)
            unsafe ERR_error_string_n(number, &text, text.count)
            let bytes = text.prefix { $0 != 0 }.map(UInt8.init(bitPattern:))
            entries.append(
                Entry(reason: Int(number & 0x7F_FFFF), text: String(decoding: bytes, as: UTF8.self)))
        }
        return entries
    }
}
