import CProcess
import Glibc

/// Files whose content survives a loss of power once a call has returned.
package enum DurableFile {
    /// Replaces the file as a whole: readers see the old or the new content, and a crash leaves one of them.
    ///
    /// The bytes go to an exclusively created file beside it with exactly this mode, are synchronised and
    /// renamed into place, and the directory is synchronised.
    package static func write(_ bytes: [UInt8], to path: String, mode: UInt32 = 0o600) throws(ProcessError) {
        let temporary = "\(path).\(try randomName()).tmp"
        let descriptor = unsafe open(temporary, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode)
        if descriptor < 0 { throw ProcessError(.file, errno: errno, "cannot make \(temporary)") }
        defer { close(descriptor) }
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
            unsafe unlink(temporary)
            throw error
        }
        try syncDirectory(Directory.parent(of: path))
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
    private let descriptor: Int32

    /// Opens the file for appending, and makes it with this mode and its name durable if it is not there.
    package init(_ path: String, mode: UInt32 = 0o600) throws(ProcessError) {
        self.path = path
        descriptor = unsafe open(path, O_WRONLY | O_CREAT | O_APPEND | O_NOFOLLOW | O_CLOEXEC, mode)
        if descriptor < 0 { throw ProcessError(.file, errno: errno, "cannot open \(path)") }
        try DurableFile.syncDirectory(Directory.parent(of: path))
    }

    deinit { close(descriptor) }

    /// Appends the bytes and synchronises the data. After an error the file may end with a part of them.
    package func append(_ bytes: [UInt8]) throws(ProcessError) {
        try writeAll(bytes, to: descriptor, path: path)
        if fdatasync(descriptor) != 0 { throw ProcessError(.file, errno: errno, "cannot sync \(path)") }
    }

    /// Shortens the file to this length and makes that durable, such as after an append that was cut short.
    package func truncate(to length: Int) throws(ProcessError) {
        if ftruncate(descriptor, length) != 0 || fdatasync(descriptor) != 0 {
            throw ProcessError(.file, errno: errno, "cannot shorten \(path)")
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
