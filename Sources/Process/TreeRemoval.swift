import CProcess
import Glibc

/// A name in a directory as the kernel has it: bytes that need not be text.
struct FileName: Sendable, Hashable {
    /// With the NUL at the end.
    let bytes: [CChar]

    /// The name of text.
    init(_ text: String) { bytes = text.utf8.map { CChar(bitPattern: $0) } + [0] }

    private init(bytes: [CChar]) { self.bytes = bytes }

    /// As shown to people.
    var text: String { String(decoding: bytes.dropLast().map { UInt8(bitPattern: $0) }, as: UTF8.self) }

    /// The next name of an open directory but `.` and `..`; nil at its end.
    static func next(in stream: OpaquePointer) throws(ProcessError) -> FileName? {
        while true {
            errno = 0
            guard let entry = unsafe readdir(stream) else {
                if errno == 0 { return nil }
                throw ProcessError(.file, errno: errno, "cannot list a directory")
            }
            let bytes = unsafe withUnsafeBytes(of: &entry.pointee.d_name) { raw in
                unsafe Array(raw.bindMemory(to: CChar.self).prefix { $0 != 0 }) + [0]
            }
            let dot = CChar(bitPattern: UInt8(ascii: "."))
            if bytes != [dot, 0] && bytes != [dot, dot, 0] { return FileName(bytes: bytes) }
        }
    }
}

/// Removes what lies below an open directory, and nothing else.
///
/// Every name is looked up in an open directory and never by a path, so that a directory that somebody swaps
/// for a link meanwhile leads nowhere else. A directory is entered only if it lies on the same mount as the
/// one it was found in: what is mounted there, also a part of the same file system, is left with the
/// directories above it. Names are bytes. What is very deep is moved up before it is entered, so that neither
/// descriptors nor the stack run out.
struct TreeRemoval {
    /// Directories that are open at a time.
    static let depthMax = 64
    /// Names that are read before they are removed.
    private static let namesMax = 4_096

    private let mount: UInt64
    private(set) var failures: [ProcessError] = []
    /// Where deep directories are moved: the topmost directory that is being removed.
    private var top: Int32 = -1
    private var movedCount = 0

    /// Removes in an open directory, which may be reached by links; returns what could not be removed.
    static func inDirectory(
        _ path: String, _ body: (inout TreeRemoval, Int32) -> Void
    ) throws(ProcessError) -> [ProcessError] {
        let descriptor = unsafe Glibc.open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        if descriptor < 0 {
            if errno == ENOENT { return [] }
            throw ProcessError(.file, errno: errno, "cannot open \(path)")
        }
        defer { close(descriptor) }
        var removal = TreeRemoval(mount: try mountID(of: descriptor, path))
        body(&removal, descriptor)
        return removal.failures
    }

    private init(mount: UInt64) { self.mount = mount }

    /// Removes entries of an open directory; at most one failure is kept for each.
    mutating func remove(_ names: [FileName], in directory: Int32, path: String) {
        for name in names {
            let count = failures.count
            remove(name, in: directory, path: "\(path)/\(name.text)")
            failures.removeLast(max(0, failures.count - count - 1))
        }
    }

    /// Removes the entry of an open directory, with all below it.
    mutating func remove(_ name: FileName, in directory: Int32, path: String, depth: Int = 0) {
        var entry = crmm_entry()
        let result = unsafe crmm_look(directory, name.bytes, &entry)
        if result == -ENOENT { return }
        if result < 0 { return fail(-result, "cannot look at \(path)") }
        if entry.is_mount_root != 0 { return fail(EBUSY, "\(path) is mounted and was left as it is") }
        guard entry.is_directory != 0 else { return unlink(name, in: directory, path: path, flags: 0) }
        if depth >= Self.depthMax { return moveUp(name, in: directory, path: path) }
        do throws(ProcessError) {
            try removeDirectory(name, in: directory, path: path, depth: depth)
        } catch {
            failures.append(error)
        }
    }

    private mutating func removeDirectory(
        _ name: FileName, in directory: Int32, path: String, depth: Int
    ) throws(ProcessError) {
        let descriptor = try open(name, in: directory, path: path)
        defer { close(descriptor) }
        let before = (top: top, moved: movedCount, failures: failures.count)
        if depth == 0 { top = descriptor }
        defer { top = before.top }
        var seen: Int
        repeat {
            seen = movedCount
            forEachName(in: descriptor, path: path) { removal, name in
                removal.remove(name, in: descriptor, path: "\(path)/\(name.text)", depth: depth + 1)
            }
            // What was moved here from below was perhaps not listed any more.
        } while depth == 0 && movedCount > seen
        // Where something was left the directory has to stay, which is no failure of its own.
        if failures.count == before.failures {
            unlink(name, in: directory, path: path, flags: AT_REMOVEDIR)
        }
    }

    /// Opens a directory for listing if it lies on this mount, and makes it accessible to its owner.
    private func open(_ name: FileName, in directory: Int32, path: String) throws(ProcessError) -> Int32 {
        let handle = unsafe crmm_open_place(directory, name.bytes)
        if handle < 0 { throw ProcessError(.file, errno: -handle, "cannot enter \(path)") }
        defer { close(handle) }
        guard try Self.mountID(of: handle, path) == mount else {
            throw ProcessError(.file, errno: EBUSY, "\(path) is mounted and was left as it is")
        }
        var entry = crmm_entry()
        if unsafe crmm_look(handle, "", &entry) == 0, entry.mode & 0o700 != 0o700 {
            // fchmod refuses descriptors of this kind (open(2)). What it does not reach fails below.
            unsafe chmod("/proc/self/fd/\(handle)", mode_t(entry.mode | 0o700))
        }
        let descriptor = unsafe openat(handle, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        if descriptor < 0 { throw ProcessError(.file, errno: errno, "cannot list \(path)") }
        return descriptor
    }

    /// Names are read in batches, so that a directory of millions costs no more memory than others.
    mutating func forEachName(
        in directory: Int32, path: String, _ body: (inout TreeRemoval, FileName) -> Void
    ) {
        let copy = fcntl(directory, F_DUPFD_CLOEXEC, 3)
        guard copy >= 0, let stream = unsafe fdopendir(copy) else {
            let failure = errno
            if copy >= 0 { close(copy) }
            return fail(failure, "cannot list \(path)")
        }
        defer { unsafe closedir(stream) }
        unsafe rewinddir(stream)
        do throws(ProcessError) {
            while true {
                var names: [FileName] = []
                while names.count < Self.namesMax, let name = try unsafe FileName.next(in: stream) {
                    names.append(name)
                }
                if names.isEmpty { return }
                for name in names { body(&self, name) }
            }
        } catch {
            failures.append(error)
        }
    }

    private mutating func moveUp(_ name: FileName, in directory: Int32, path: String) {
        movedCount += 1
        let place = FileName(".removed-\(getpid())-\(movedCount)")
        if unsafe renameat(directory, name.bytes, top, place.bytes) != 0 {
            fail(errno, "cannot move \(path)")
        }
    }

    private mutating func unlink(_ name: FileName, in directory: Int32, path: String, flags: Int32) {
        if unsafe unlinkat(directory, name.bytes, flags) != 0 && errno != ENOENT {
            fail(errno, "cannot remove \(path)")
        }
    }

    private mutating func fail(_ errno: Int32, _ message: String) {
        failures.append(ProcessError(.file, errno: errno, message))
    }

    /// The number of the mount that an open file lies on, from the kernel's own table of descriptors where
    /// statx does not say it (before Linux 5.8).
    static func mountID(of descriptor: Int32, _ path: String) throws(ProcessError) -> UInt64 {
        var entry = crmm_entry()
        let result = unsafe crmm_look(descriptor, "", &entry)
        if result < 0 { throw ProcessError(.file, errno: -result, "cannot look at \(path)") }
        return entry.mount != 0 ? entry.mount : try mountIDFromTable(of: descriptor, path)
    }

    static func mountIDFromTable(of descriptor: Int32, _ path: String) throws(ProcessError) -> UInt64 {
        let table = String(
            decoding: try readFile("/proc/self/fdinfo/\(descriptor)", max: 65_536), as: UTF8.self)
        let line = table.split(separator: "\n").first { $0.hasPrefix("mnt_id:") }
        guard let id = line.flatMap({ UInt64($0.dropFirst(7).drop { $0 == "\t" || $0 == " " }) }) else {
            throw ProcessError(.file, "the kernel does not say what \(path) is mounted on")
        }
        return id
    }
}
