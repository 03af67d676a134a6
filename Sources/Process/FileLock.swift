import Glibc
import Synchronization

/// A lock file that holds its owner's pid.
///
/// The lock is the kernel's (flock), so it goes with its owner however that ends, and a file left behind by
/// `kill -9` means nothing. The file itself stays; removing it would let two owners lock two files of one
/// name.
package final class FileLock: Sendable {
    /// The lock file.
    package let path: String
    private let descriptor: Mutex<Int32>

    /// How often and how far apart a lock that is held is tried again.
    private static let tries = 20
    private static let pauseMicroseconds: UInt32 = 5_000

    /// Takes the lock or throws `.locked` with a sentence that names the pid that holds it; after a tenth of
    /// a second at most, since who only asks for the holder holds it for a moment too.
    package convenience init(_ path: String) throws(ProcessError) {
        try self.init(path, pause: { usleep(FileLock.pauseMicroseconds) })
    }

    init(_ path: String, pause: () -> Void) throws(ProcessError) {
        self.path = path
        let descriptor = try FileLock.open(path, O_RDWR | O_CREAT)
        var triesLeft = FileLock.tries
        while flock(descriptor, LOCK_EX | LOCK_NB) != 0 {
            if errno == EINTR { continue }
            if errno == EWOULDBLOCK && triesLeft > 0 {
                triesLeft -= 1
                pause()
                continue
            }
            let failure = errno
            close(descriptor)
            if failure != EWOULDBLOCK { throw ProcessError(.file, errno: failure, "cannot lock \(path)") }
            let holder = FileLock.recordedPID(path).map { "process \($0)" } ?? "another process"
            throw ProcessError(.locked, "\(path) is locked by \(holder)")
        }
        let content = Array("\(getpid())\n".utf8)
        let isWritten =
            unsafe ftruncate(descriptor, 0) == 0
            && pwrite(descriptor, content, content.count, 0) == content.count
        if !isWritten {
            let failure = errno
            close(descriptor)
            throw ProcessError(.file, errno: failure, "cannot write \(path)")
        }
        self.descriptor = Mutex(descriptor)
    }

    deinit { release() }

    /// Gives up this process's hold.
    package func release() {
        descriptor.withLock { descriptor in
            if descriptor >= 0 { close(descriptor) }
            descriptor = -1
        }
    }

    /// The descriptor that carries the lock, -1 once released: a child that is given it as its input holds
    /// the lock too, for as long as it or a child of its own lives.
    package var heldDescriptor: Int32 { descriptor.withLock { $0 } }

    /// The pid of the process that holds the lock now, nil when nobody does or the file is not there.
    package static func holder(of path: String) throws(ProcessError) -> Int32? {
        if !fileExists(path) { return nil }
        let descriptor = try open(path, O_RDONLY)
        defer { close(descriptor) }
        if flock(descriptor, LOCK_SH | LOCK_NB) == 0 { return nil }
        if errno != EWOULDBLOCK { throw ProcessError(.file, errno: errno, "cannot probe the lock \(path)") }
        return recordedPID(path)
    }

    private static func open(_ path: String, _ flags: Int32) throws(ProcessError) -> Int32 {
        let descriptor = unsafe Glibc.open(path, flags | O_CLOEXEC | O_NOFOLLOW, 0o600)
        if descriptor < 0 { throw ProcessError(.file, errno: errno, "cannot open \(path)") }
        return descriptor
    }

    private static func recordedPID(_ path: String) -> Int32? {
        // An unreadable file only makes the sentence less precise.
        guard let content = try? readFile(path, max: 64) else { return nil }
        return Int32(String(decoding: content.prefix { $0 != UInt8(ascii: "\n") }, as: UTF8.self))
    }
}
