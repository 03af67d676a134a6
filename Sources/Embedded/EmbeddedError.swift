package import Process

/// Why the private servers cannot be started.
package struct EmbeddedError: Error, Sendable, CustomStringConvertible {
    /// The kind of a failure.
    package struct Code: Sendable, Hashable {
        private enum Kind: Hashable { case tool, user, directory, inUse, start, secret }
        private let kind: Kind

        /// A program is not installed; the message names it and its package.
        package static let missingTool = Code(kind: .tool)
        /// Root starts the servers and the system has no user for them.
        package static let missingUser = Code(kind: .user)
        /// A directory cannot be used as it is.
        package static let directory = Code(kind: .directory)
        /// Another instance uses the data directory; the message names its process.
        package static let inUse = Code(kind: .inUse)
        /// A server did not start; the message ends with its last words.
        package static let start = Code(kind: .start)
        /// A secret's name or file is not what it should be.
        package static let secret = Code(kind: .secret)
    }

    /// The kind of the failure.
    package let code: Code
    /// One sentence that says what is wrong and what to do.
    package let message: String
    /// What the operating system said, if it was asked.
    package let cause: ProcessError?

    init(_ code: Code, _ message: String, cause: ProcessError? = nil) {
        self.code = code
        self.message = message
        self.cause = cause
    }

    /// The sentence.
    package var description: String { cause.map { "\(message): \($0.message)" } ?? message }
}
