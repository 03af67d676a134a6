/// What a child process is started with; nothing is inherited that is not said here.
package struct ChildOptions: Sendable {
    /// Where the child's standard input comes from.
    package enum Input: Sendable {
        /// `/dev/null`.
        case null
        /// A pipe whose writing end is `Child.stdinFD`.
        case pipe
        /// An open descriptor of the parent, which keeps it.
        case descriptor(Int32)
    }

    /// Where an output stream of the child goes.
    package enum Output: Sendable {
        /// A pipe whose reading end is `Child.stdoutFD` or `Child.stderrFD`.
        case pipe
        /// `/dev/null`.
        case null
        /// Appended to this file, which is made with mode 0600; a symbolic link is refused.
        case file(String)
        /// The parent's own stream.
        case inherit
    }

    /// Which processes share the child's signals from the terminal and from `Child.signalGroup`.
    package enum Isolation: Sendable {
        /// The parent's group.
        case shared
        /// A group of its own, led by the child (setpgid).
        case processGroup
        /// A session of its own without a terminal, led by the child (setsid).
        case session
    }

    /// Resource limits; nil leaves the parent's.
    package struct Limits: Sendable {
        /// The number of descriptors (RLIMIT_NOFILE).
        package var openFilesMax: Int?
        /// The size of a file that is written (RLIMIT_FSIZE).
        package var fileBytesMax: Int?
        /// The size of a core dump (RLIMIT_CORE).
        package var coreBytesMax: Int?

        /// Limits, by default the parent's.
        package init(openFilesMax: Int? = nil, fileBytesMax: Int? = nil, coreBytesMax: Int? = nil) {
            self.openFilesMax = openFilesMax
            self.fileBytesMax = fileBytesMax
            self.coreBytesMax = coreBytesMax
        }
    }

    /// The program, an absolute path.
    package var executable: String
    /// The arguments after the program's name, which is the executable's path.
    package var arguments: [String]
    /// The whole environment, in this order.
    package var environment: [(String, String)]
    /// More of the environment, whose values leave no copy in this process.
    package var hiddenEnvironment: [(String, HiddenBytes)] = []
    /// Where the child starts, entered with the child's user; nil is the parent's directory.
    package var workingDirectory: String?
    /// Standard input.
    package var stdin: Input
    /// Standard output.
    package var stdout: Output
    /// Standard error.
    package var stderr: Output
    /// The child's process group or session.
    package var isolation: Isolation
    /// The user to become; nil keeps the parent's user, group and supplementary groups.
    package var userID: UInt32?
    /// The group to become along with `userID`; nil means the group whose number is the user's.
    package var groupID: UInt32?
    /// The supplementary groups to have along with `userID`; all others are dropped.
    package var supplementaryGroups: [UInt32]
    /// The signal the child gets when the parent process dies.
    package var parentDeathSignal: Int32?
    /// Resource limits.
    package var limits: Limits

    /// Options with an empty environment, no input, piped output and a process group of its own.
    package init(
        executable: String, arguments: [String] = [], environment: [(String, String)] = [],
        workingDirectory: String? = nil, stdin: Input = .null, stdout: Output = .pipe, stderr: Output = .pipe,
        isolation: Isolation = .processGroup, userID: UInt32? = nil, groupID: UInt32? = nil,
        supplementaryGroups: [UInt32] = [], parentDeathSignal: Int32? = nil, limits: Limits = Limits()
    ) {
        self.executable = executable
        self.arguments = arguments
        self.environment = environment
        self.workingDirectory = workingDirectory
        self.stdin = stdin
        self.stdout = stdout
        self.stderr = stderr
        self.isolation = isolation
        self.userID = userID
        self.groupID = groupID
        self.supplementaryGroups = supplementaryGroups
        self.parentDeathSignal = parentDeathSignal
        self.limits = limits
    }

    /// Refuses what would reach the child changed: execve takes strings up to the first NUL.
    func validate() throws(ProcessError) {
        guard executable.utf8.first == UInt8(ascii: "/") else {
            throw ProcessError(.invalid, "the executable's path must be absolute: \(executable)")
        }
        let strings =
            [executable, workingDirectory ?? ""] + arguments + environment.flatMap { [$0.0, $0.1] }
            + hiddenEnvironment.map(\.0)
        guard !strings.contains(where: { $0.utf8.contains(0) }),
            !hiddenEnvironment.contains(where: \.1.hasNUL)
        else {
            throw ProcessError(.invalid, "an argument, variable or path has a NUL byte")
        }
        let names = environment.map(\.0) + hiddenEnvironment.map(\.0)
        guard !names.contains(where: { $0.isEmpty || $0.utf8.contains(UInt8(ascii: "=")) }) else {
            throw ProcessError(.invalid, "the name of an environment variable is empty or has an equals sign")
        }
    }
}
