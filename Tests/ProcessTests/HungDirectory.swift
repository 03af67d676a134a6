import Process

/// A directory that does not answer, as of a file server that is gone: whoever looks into it waits until it
/// is taken away. Only root can make one.
final class HungDirectory: Sendable {
    let path: String
    private let server: Child

    static let isPossible = effectiveUserID() == 0 && fileExists("/dev/fuse")

    /// The place is made.
    init(_ path: String) throws {
        self.path = path
        try Directory.make(path)
        // A server that mounts and then says nothing.
        let options = "fd=3,rootmode=40000,user_id=0,group_id=0"
        server = try Child.spawn(
            shell(
                "exec 3<>/dev/fuse; mount -i -t fuse -o \(options) none '\(path)' && echo up; exec sleep 600")
        )
        guard try readSome(server.stdoutFD, max: 3) == Array("up\n".utf8) else {
            throw ProcessError(.file, "cannot mount \(path)")
        }
    }

    /// Lets everybody who waits go on with an error, and takes the directory away.
    func release() async throws {
        try server.signal(9)
        _ = await server.wait()
        _ = await (try Child.spawn(shell("umount -l '\(path)'"))).wait()
    }
}
