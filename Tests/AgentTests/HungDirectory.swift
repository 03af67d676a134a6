import Process
import Testing

/// A directory that does not answer, as of a file server that is gone: whoever looks into it waits until it
/// is taken away. Only root can make one.
struct HungDirectory {
    static let isPossible = effectiveUserID() == 0 && fileExists("/dev/fuse")

    let path: String
    private let server: Child

    /// The place is made; a server mounts there and then says nothing.
    init(_ path: String) async throws {
        self.path = path
        try Directory.make(path)
        let options = "fd=3,rootmode=40000,user_id=0,group_id=0"
        let line =
            "exec 3<>/dev/fuse; mount -i -t fuse -o \(options) none '\(path)' && echo up; exec sleep 600"
        server = try Child.spawn(
            ChildOptions(
                executable: "/bin/sh", arguments: ["-c", line], environment: [("PATH", "/usr/bin:/bin")],
                stderr: .null))
        try #require(try readSome(server.stdoutFD, max: 3) == Array("up\n".utf8))
    }

    /// Lets everybody who waits go on with an error, and takes the directory away.
    func release() async throws {
        try server.signal(9)
        _ = await server.wait()
        let unmount = try Child.spawn(ChildOptions(executable: "/bin/umount", arguments: ["-l", path]))
        _ = await unmount.wait()
    }
}
