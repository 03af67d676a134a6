/// Why the agent could not do something: a stable code and one sentence for the operator of the device.
package struct AgentError: Error, Sendable, Equatable, CustomStringConvertible {
    /// The kind of a failure.
    package struct Code: Sendable, Hashable, CustomStringConvertible {
        private enum Kind: String, Sendable {
            case invalid, refused, untrusted, notEnrolled, alreadyEnrolled, damaged, connection,
                protocolViolation
        }

        private let kind: Kind

        /// An argument or file given by the operator is not what it should be.
        package static let invalid = Code(kind: .invalid)
        /// The server answered with a problem.
        package static let refused = Code(kind: .refused)
        /// Something was signed by nobody, or says something else than what the device was told to trust.
        package static let untrusted = Code(kind: .untrusted)
        /// The data directory holds no identity.
        package static let notEnrolled = Code(kind: .notEnrolled)
        /// The data directory holds an identity.
        package static let alreadyEnrolled = Code(kind: .alreadyEnrolled)
        /// The agent's own state on disk is not what it wrote.
        package static let damaged = Code(kind: .damaged)
        /// The server could not be reached or stopped answering.
        package static let connection = Code(kind: .connection)
        /// The other side said something that the protocol does not have.
        package static let protocolViolation = Code(kind: .protocolViolation)

        /// The code's stable name, as in logs.
        package var description: String { kind.rawValue }
    }

    /// The kind of the failure.
    package let code: Code
    /// One sentence without its end.
    package let message: String
    /// What was below, in its own words.
    package let cause: String?
    /// Source file and line that threw.
    package let location: String

    /// A failure, with what caused it.
    package init(
        _ code: Code, _ message: String, cause: (any Error)? = nil, file: String = #fileID, line: Int = #line
    ) {
        self.code = code
        self.message = message
        self.cause = cause.map { "\($0)" }
        location = "\(file):\(line)"
    }

    /// The message with its cause.
    package var description: String { cause.map { "\(message): \($0)" } ?? message }

    /// The same kind and message; where it was thrown does not matter.
    package static func == (left: AgentError, right: AgentError) -> Bool {
        left.code == right.code && left.message == right.message
    }
}
