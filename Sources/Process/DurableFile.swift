import CProcess
import Glibc
import Synchronization

/// Files whose content survives a loss of power once a call has returned.
package enum DurableFile {
    /// Replaces the file as a whole: readers see the old or the new content, and a crash leaves one of them.
    ///
    /// The bytes go to an exclusively created file beside it with exactly this mode, are synchronised and
    /// renamed into place, and the directory is synchronised.
    package static func write(_ bytes: [UInt8], to path: String, mode: UInt32 = 0o600) throws(ProcessError) {
        close(try replace(path, with: bytes, mode: mode))
        try syncDirectory(Directory.parent(of: path))
    }

    /// All but the last step: afterwards the name is the new file's, and not durable yet. Returns a
    /// descriptor that appends to it.
    fileprivate static func replace(
        _ path: String, with bytes: [UInt8], mode: UInt32
    ) throws(ProcessError) -> Int32 {
        let temporary = "\(path).\(try randomName()).tmp"
        let flags = O_WRONLY | O_CREAT | O_EXCL | O_APPEND | O_NOFOLLOW | O_CLOEXEC
        let descriptor = unsafe open(temporary, flags, mode)
        if descriptor < 0 { throw ProcessError(.file, errno: errno, "cannot make \(temporary)") }
        do throws(ProcessError) {
            if fchmod(descriptor, mode) != 0 {
                throw ProcessError(.file, errno: errno, "cannot set the mode of \(temporary)")
            }
            try writeAll(bytes, to: descriptor, path: temporary)
            if fsync(descriptor) != 0 { throw ProcessError(.file, errno: errno, "cannot sync \(temporary)") }
            if unsafe rename(temporary, path) != 0 {
                throw ProcessError(.file, errno: errno, "cannot replace \(path)")
            }
        } catch {
            close(descriptor)
            unsafe unlink(temporary)
            throw error
        }
        return descriptor
    }

    /// Makes the names in a directory durable: files made, renamed or removed there.
    package static func syncDirectory(_ path: String) throws(ProcessError) {
        let descriptor = unsafe open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC)
        if descriptor < 0 { throw ProcessError(.file, errno: errno, "cannot open \(path)") }
        defer { close(descriptor) }
        if fsync(descriptor) != 0 { throw ProcessError(.file, errno: errno, "cannot sync \(path)") }
    }

    private static func randomName() throws(ProcessError) -> String {
        try randomBytes(8).map { $0 < 16 ? "0" + String($0, radix: 16) : String($0, radix: 16) }.joined()
    }
}

/// A file that only grows, such as a journal; each append is durable when it returns.
package final class AppendFile: Sendable {
    private let path: String
    private let mode: UInt32
    /// -1 once what lies on the disk is not known any more.
    private let descriptor: Mutex<Int32>

    /// Opens the file for appending, and makes it with this mode and its name durable if it is not there.
    package init(_ path: String, mode: UInt32 = 0o600) throws(ProcessError) {
        self.path = path
        self.mode = mode
        let descriptor = unsafe open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, mode)
        if descriptor < 0 { throw ProcessError(.file, errno: errno, "cannot open \(path)") }
        self.descriptor = Mutex(descriptor)
        try DurableFile.syncDirectory(Directory.parent(of: path))
    }

    deinit { descriptor.withLock { _ = close($0) } }

    /// Appends the bytes and synchronises the data. After an error the file may end with a part of them.
    package func append(_ bytes: [UInt8]) throws(ProcessError) {
        try descriptor.withLock { descriptor throws(ProcessError) in
            try writeAll(bytes, to: descriptor, path: path)
            if fdatasync(descriptor) != 0 { throw ProcessError(.file, errno: errno, "cannot sync \(path)") }
        }
    }

    /// Shortens the file to this length and makes that durable, such as after an append that was cut short.
    package func truncate(to length: Int) throws(ProcessError) {
        try descriptor.withLock { descriptor throws(ProcessError) in
            if ftruncate(descriptor, length) != 0 || fdatasync(descriptor) != 0 {
                throw ProcessError(.file, errno: errno, "cannot shorten \(path)")
            }
        }
    }

    /// Begins the file anew with these bytes, as a whole; a crash leaves the old or the new content.
    ///
    /// After an error the file is as it was, except when the new file's name could not be made durable:
    /// nobody knows then what a loss of power would bring back, and nothing is appended any more.
    package func replace(with bytes: [UInt8]) throws(ProcessError) {
        try descriptor.withLock { descriptor throws(ProcessError) in
            let new = try DurableFile.replace(path, with: bytes, mode: mode)
            close(descriptor)
            descriptor = new
            do throws(ProcessError) {
                try DurableFile.syncDirectory(Directory.parent(of: path))
            } catch {
                close(descriptor)
                descriptor = -1
                throw error
            }
        }
    }
}

/// Bytes from the kernel's random generator.
package func randomBytes(_ count: Int) throws(ProcessError) -> [UInt8] {
    var bytes = [UInt8](repeating: 0, count: count)
    let result = unsafe crmm_random(&bytes, count)
    if result < 0 { throw ProcessError(.resource, errno: -result, "cannot get random bytes") }
    return bytes
}

/// Writes all the bytes to a blocking descriptor; `path` names it in the error.
package func writeAll(_ bytes: [UInt8], to descriptor: Int32, path: String) throws(ProcessError) {
    var written = 0
    while written < bytes.count {
        let count = unsafe bytes.withUnsafeBytes { buffer in
            unsafe Glibc.write(descriptor, buffer.baseAddress! + written, buffer.count - written)
        }
        if count < 0 && errno == EINTR { continue }
        if count < 0 { throw ProcessError(.file, errno: errno, "cannot write \(path)") }
        written += count
    }
}
