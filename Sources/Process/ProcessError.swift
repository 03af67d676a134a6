import Glibc

/// What went wrong with a child process, a file or a lock of this machine.
package struct ProcessError: Error, Sendable, CustomStringConvertible {
    /// The kind of a failure.
    package struct Code: Sendable, Hashable {
        private enum Kind: Hashable { case invalid, spawn, workingDirectory, signal, file, locked, resource }
        private let kind: Kind

        /// An argument that cannot be handed to the operating system, such as a string with a NUL byte.
        package static let invalid = Code(kind: .invalid)
        /// The child could not be started; the message names the step.
        package static let spawn = Code(kind: .spawn)
        /// The child could not enter its working directory.
        package static let workingDirectory = Code(kind: .workingDirectory)
        /// A signal could not be sent.
        package static let signal = Code(kind: .signal)
        /// A file or directory could not be read, written, made or removed.
        package static let file = Code(kind: .file)
        /// Another process holds the lock.
        package static let locked = Code(kind: .locked)
        /// The machine gave no more threads, descriptors or random bytes.
        package static let resource = Code(kind: .resource)
    }

    /// The kind of the failure.
    package let code: Code
    /// The operating system's number, 0 where there is none.
    package let errno: Int32
    /// One sentence with what was tried and why it failed.
    package let message: String

    /// An error whose sentence ends with the operating system's words for `errno`, unless that is 0.
    package init(_ code: Code, errno: Int32 = 0, _ message: String) {
        self.code = code
        self.errno = errno
        self.message = errno == 0 ? message : unsafe "\(message): \(String(cString: strerror(errno)))"
    }

    /// The sentence.
    package var description: String { message }
}
