import CProcess
import Glibc

/// Starts a child: its streams are opened by the calling thread, the fork itself is the reaper's.
func launch(_ options: ChildOptions) throws(ProcessError) -> Child {
    var streams = StreamEnds()
    defer { for descriptor in streams.owned { close(descriptor) } }
    do throws(ProcessError) {
        try streams.open(options)
        let (process, report) = try Reaper.shared.fork(options, streams: streams.child)
        return Child(options: options, process: process, ends: streams.parent, report: report)
    } catch {
        for descriptor in streams.parent where descriptor >= 0 { close(descriptor) }
        throw error
    }
}

/// Both ends of the three standard streams while a child is being made.
private struct StreamEnds {
    /// What becomes 0, 1 and 2 in the child.
    var child: [Int32] = [-1, -1, -1]
    /// The parent's ends of pipes.
    var parent: [Int32] = [-1, -1, -1]
    /// Those of the child's ends that were opened here and that the parent closes after the fork.
    var owned: [Int32] = []

    mutating func open(_ options: ChildOptions) throws(ProcessError) {
        switch options.stdin {
        case .null: child[0] = try file("/dev/null", O_RDONLY)
        case .descriptor(let descriptor): child[0] = descriptor
        case .pipe:
            (child[0], parent[0]) = try pipe()
            owned.append(child[0])
        }
        for (stream, output) in [(1, options.stdout), (2, options.stderr)] {
            switch output {
            case .null: child[stream] = try file("/dev/null", O_WRONLY)
            case .file(let path): child[stream] = try file(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW)
            case .inherit: child[stream] = Int32(stream)
            case .pipe:
                (parent[stream], child[stream]) = try pipe()
                owned.append(child[stream])
            }
        }
    }

    private mutating func file(_ path: String, _ flags: Int32) throws(ProcessError) -> Int32 {
        let descriptor = unsafe Glibc.open(path, flags | O_CLOEXEC | O_NOCTTY, 0o600)
        if descriptor < 0 { throw ProcessError(.file, errno: errno, "cannot open \(path)") }
        owned.append(descriptor)
        return descriptor
    }

    /// A pipe as (reading end, writing end).
    private func pipe() throws(ProcessError) -> (Int32, Int32) {
        var ends: [Int32] = [-1, -1]
        let result = unsafe crmm_pipe(&ends)
        if result < 0 { throw ProcessError(.resource, errno: -result, "cannot make a pipe") }
        return (ends[0], ends[1])
    }
}

/// Forks; only the reaper's thread calls this. Returns the process and the descriptor that tells what became
/// of its program.
func fork(
    _ options: ChildOptions, streams: [Int32]
) throws(ProcessError) -> (ChildProcess, report: Int32) {
    let arguments = [options.executable] + options.arguments
    let environment = options.environment.map { "\($0.0)=\($0.1)" }
    let groups = options.supplementaryGroups
    var report: Int32 = -1
    let pid = unsafe withCStrings(arguments) { argv in
        unsafe withCStrings(environment, options.hiddenEnvironment) { envp in
            unsafe withOptionalCString(options.workingDirectory) { directory in
                unsafe options.executable.withCString { executable in
                    unsafe groups.withUnsafeBufferPointer { groups in
                        var spawn = unsafe crmm_spawn()
                        unsafe spawn.executable = executable
                        unsafe spawn.argv = argv
                        unsafe spawn.envp = envp
                        unsafe spawn.directory = directory
                        unsafe spawn.streams = (streams[0], streams[1], streams[2])
                        unsafe spawn.isolation = options.isolation.number
                        unsafe spawn.drop_privileges = options.userID == nil ? 0 : 1
                        unsafe spawn.user = options.userID ?? 0
                        unsafe spawn.group = options.groupID ?? options.userID ?? 0
                        unsafe spawn.groups = groups.baseAddress
                        unsafe spawn.group_count = groups.count
                        unsafe spawn.parent_death_signal = options.parentDeathSignal ?? 0
                        unsafe spawn.open_files_max = Int64(options.limits.openFilesMax ?? -1)
                        unsafe spawn.file_bytes_max = Int64(options.limits.fileBytesMax ?? -1)
                        unsafe spawn.core_bytes_max = Int64(options.limits.coreBytesMax ?? -1)
                        return unsafe crmm_spawn(&spawn, &report)
                    }
                }
            }
        }
    }
    guard pid > 0 else {
        throw ProcessError(.spawn, errno: -pid, "cannot fork for \(options.executable)")
    }
    // Before anybody can collect it, since afterwards the number may be another process's.
    let identity = ProcessIdentity(pid: pid)
    let descriptor = crmm_pidfd_open(pid)
    guard descriptor >= 0 else {
        kill(pid, SIGKILL)
        waitpid(pid, nil, 0)
        close(report)
        throw ProcessError(.resource, errno: -descriptor, "cannot open a descriptor of process \(pid)")
    }
    return (ChildProcess(pid: pid, identity: identity, descriptor: descriptor), report)
}

/// What the child says of a step that failed before its program ran.
func spawnError(_ options: ChildOptions, failedAt step: Int32, errno: Int32) -> ProcessError {
    let code: ProcessError.Code =
        crmm_step(UInt32(step)) == CRMM_STEP_DIRECTORY ? .workingDirectory : .spawn
    return ProcessError(code, errno: errno, sentence(options, failedAt: step))
}

private func sentence(_ options: ChildOptions, failedAt step: Int32) -> String {
    switch crmm_step(UInt32(step)) {
    case CRMM_STEP_GROUP: "cannot make a process group for \(options.executable)"
    case CRMM_STEP_STREAMS: "cannot connect the standard streams of \(options.executable)"
    case CRMM_STEP_LIMITS: "cannot limit the resources of \(options.executable)"
    case CRMM_STEP_USER: "cannot become user \(options.userID ?? 0) for \(options.executable)"
    case CRMM_STEP_DEATH_SIGNAL: "cannot set the parent-death signal of \(options.executable)"
    case CRMM_STEP_DIRECTORY: "cannot enter the working directory \(options.workingDirectory ?? "")"
    case CRMM_STEP_EXEC: "cannot run \(options.executable)"
    default: "cannot fork for \(options.executable)"
    }
}

extension ChildOptions.Isolation {
    fileprivate var number: Int32 {
        switch self {
        case .shared: Int32(CRMM_SHARED.rawValue)
        case .processGroup: Int32(CRMM_PROCESS_GROUP.rawValue)
        case .session: Int32(CRMM_SESSION.rawValue)
        }
    }
}

private typealias CStrings = UnsafePointer<UnsafeMutablePointer<CChar>?>

/// Calls the body with the strings, and hidden ones behind them, as a C array that ends with NULL. The hidden
/// are overwritten before their memory is given back.
private func withCStrings<R>(
    _ strings: [String], _ hidden: [(String, HiddenBytes)] = [], _ body: (CStrings) -> R
) -> R {
    var pointers = unsafe strings.map { unsafe strdup($0) }
    let values = unsafe hidden.map { unsafe hiddenCString($0.0, $0.1) }
    unsafe pointers += values.map { unsafe Optional($0.start) }
    unsafe pointers.append(nil)
    defer {
        unsafe values.forEach { unsafe explicit_bzero($0.start, $0.count) }
        unsafe pointers.forEach { unsafe free($0) }
    }
    return unsafe pointers.withUnsafeBufferPointer { buffer in
        // Not empty: the NULL at the end.
        unsafe body(buffer.baseAddress!)
    }
}

private func withOptionalCString<R>(_ string: String?, _ body: (UnsafePointer<CChar>?) -> R) -> R {
    guard let string else { return body(nil) }
    return unsafe string.withCString { unsafe body($0) }
}

/// `name=value` and NUL in memory of its own, which the caller overwrites and frees.
private func hiddenCString(
    _ name: String, _ value: HiddenBytes
) -> (start: UnsafeMutablePointer<CChar>, count: Int) {
    let prefix = Array("\(name)=".utf8)
    let count = prefix.count + value.count + 1
    let start = unsafe calloc(count, 1).assumingMemoryBound(to: CChar.self)
    for (index, byte) in prefix.enumerated() { unsafe start[index] = CChar(bitPattern: byte) }
    value.withBytes { bytes in
        for index in bytes.indices { unsafe start[prefix.count + index] = CChar(bitPattern: bytes[index]) }
    }
    return unsafe (start, count)
}
