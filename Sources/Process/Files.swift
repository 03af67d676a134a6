import Glibc

/// The whole content of a file; refuses one of more than `max` bytes.
package func readFile(_ path: String, max: Int) throws(ProcessError) -> [UInt8] {
    let descriptor = unsafe open(path, O_RDONLY | O_CLOEXEC | O_NOCTTY)
    if descriptor < 0 { throw ProcessError(.file, errno: errno, "cannot open \(path)") }
    defer { close(descriptor) }
    var content: [UInt8] = []
    var buffer = [UInt8](repeating: 0, count: 64 * 1024)
    while true {
        let count = unsafe read(descriptor, &buffer, buffer.count)
        if count < 0 && errno == EINTR { continue }
        if count < 0 { throw ProcessError(.file, errno: errno, "cannot read \(path)") }
        if count == 0 { return content }
        if content.count + count > max {
            throw ProcessError(.file, errno: EFBIG, "\(path) has more than \(max) bytes")
        }
        content += buffer[..<count]
    }
}

/// The next bytes from a blocking descriptor, at most `max`; empty at the end.
package func readSome(_ descriptor: Int32, max: Int) throws(ProcessError) -> [UInt8] {
    var buffer = [UInt8](repeating: 0, count: max)
    while true {
        let count = unsafe read(descriptor, &buffer, max)
        if count >= 0 { return Array(buffer[..<count]) }
        if errno != EINTR { throw ProcessError(.file, errno: errno, "cannot read descriptor \(descriptor)") }
    }
}

/// Makes a file with these bytes and this mode where there is none; it need not survive a loss of power.
package func makeFile(_ bytes: [UInt8], at path: String, mode: UInt32 = 0o600) throws(ProcessError) {
    let descriptor = unsafe open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode)
    if descriptor < 0 { throw ProcessError(.file, errno: errno, "cannot make \(path)") }
    defer { close(descriptor) }
    if fchmod(descriptor, mode) != 0 {
        throw ProcessError(.file, errno: errno, "cannot set the mode of \(path)")
    }
    try writeAll(bytes, to: descriptor, path: path)
}

/// Removes a file; one that is not there is fine.
package func removeFile(_ path: String) throws(ProcessError) {
    if unsafe unlink(path) != 0 && errno != ENOENT {
        throw ProcessError(.file, errno: errno, "cannot remove \(path)")
    }
}

/// Whether something is at this path, also a directory; a symbolic link is followed.
package func fileExists(_ path: String) -> Bool { unsafe access(path, F_OK) == 0 }

/// The names in a directory, sorted, without `.` and `..`.
package func listDirectory(_ path: String) throws(ProcessError) -> [String] {
    guard let directory = unsafe opendir(path) else {
        throw ProcessError(.file, errno: errno, "cannot list \(path)")
    }
    defer { unsafe closedir(directory) }
    var names: [String] = []
    while let entry = unsafe readdir(directory) {
        let name = unsafe withUnsafePointer(to: &entry.pointee.d_name) { pointer in
            unsafe pointer.withMemoryRebound(to: CChar.self, capacity: 256) { unsafe String(cString: $0) }
        }
        if name != "." && name != ".." { names.append(name) }
    }
    return names.sorted()
}

/// What a directory held when it was listed.
package struct DirectoryEntries: Sendable {
    private let path: String
    private let names: [FileName]

    /// Lists a directory; empty if there is none.
    package init(of path: String) throws(ProcessError) {
        self.path = path
        var names: [FileName] = []
        let failures = try TreeRemoval.inDirectory(path) { removal, directory in
            removal.forEachName(in: directory, path: path) { names.append($1) }
        }
        if let failure = failures.first { throw failure }
        self.names = names
    }

    /// Removes them, each as `Directory.removeTree` does, and nothing that has come since; returns one
    /// failure for each entry that could not be removed.
    package func remove() throws(ProcessError) -> [ProcessError] {
        try TreeRemoval.inDirectory(path) { removal, directory in
            removal.remove(names, in: directory, path: path)
        }
    }
}

/// Who a file or directory belongs to and who may do what with it.
package struct FileStatus: Sendable, Hashable {
    /// The owner.
    package let userID: UInt32
    /// The group.
    package let groupID: UInt32
    /// The twelve permission bits.
    package let mode: UInt32
    /// Whether it is a directory.
    package let isDirectory: Bool

    /// The status of what is at the path, nil if there is nothing within reach.
    package init?(_ path: String, followsLinks: Bool = true) {
        var status = Glibc.stat()
        guard unsafe (followsLinks ? stat(path, &status) : lstat(path, &status)) == 0 else { return nil }
        (userID, groupID) = (status.st_uid, status.st_gid)
        mode = status.st_mode & 0o7777
        isDirectory = status.st_mode & S_IFMT == S_IFDIR
    }

    /// Gives the file or directory, not what a link there leads to, to another user and group.
    package static func setOwner(_ path: String, userID: UInt32, groupID: UInt32) throws(ProcessError) {
        if unsafe lchown(path, userID, groupID) != 0 {
            throw ProcessError(.file, errno: errno, "cannot change the owner of \(path)")
        }
    }

    /// Sets the permission bits.
    package static func setMode(_ path: String, _ mode: UInt32) throws(ProcessError) {
        if unsafe chmod(path, mode) != 0 {
            throw ProcessError(.file, errno: errno, "cannot set the mode of \(path)")
        }
    }
}

/// Gives a file or directory a new name, replacing a file that has it.
package func renameFile(_ path: String, to newPath: String) throws(ProcessError) {
    if unsafe rename(path, newPath) != 0 {
        throw ProcessError(.file, errno: errno, "cannot rename \(path) to \(newPath)")
    }
}

/// Makes and removes directories.
package enum Directory {
    /// Makes the directory and the parents it lacks, all with this mode whatever the umask; one that is there
    /// is left as it is.
    package static func make(_ path: String, mode: UInt32 = 0o700) throws(ProcessError) {
        if isDirectory(path) { return }
        let parent = parent(of: path)
        if parent != path { try make(parent, mode: mode) }
        if unsafe mkdir(path, mode) == 0 {
            try FileStatus.setMode(path, mode)
        } else if errno != EEXIST || !isDirectory(path) {
            throw ProcessError(.file, errno: errno, "cannot make the directory \(path)")
        }
    }

    /// Whether this path is a directory, following symbolic links.
    package static func isDirectory(_ path: String) -> Bool { FileStatus(path)?.isDirectory ?? false }

    /// Removes a directory, or what else is there, with all it holds; one that is not there is fine.
    ///
    /// Symbolic links are removed and not followed, and what is mounted below is left as it is: then, and
    /// where something cannot be removed, the rest is removed all the same and the first failure is thrown.
    package static func removeTree(_ path: String) throws(ProcessError) {
        var path = path
        while path.count > 1, path.hasSuffix("/") { path.removeLast() }
        let name = path.split(separator: "/").last.map(String.init) ?? path
        guard name != "..", name != ".", name != "/" else {
            throw ProcessError(.invalid, "\(path) is not a name that could be removed")
        }
        let failures = try TreeRemoval.inDirectory(parent(of: path)) { removal, directory in
            removal.remove(FileName(name), in: directory, path: path)
        }
        if let failure = failures.first { throw failure }
    }

    /// The path of the directory that holds this path.
    package static func parent(of path: String) -> String {
        guard let slash = path.lastIndex(of: "/") else { return "." }
        return slash == path.startIndex ? "/" : String(path[..<slash])
    }
}
