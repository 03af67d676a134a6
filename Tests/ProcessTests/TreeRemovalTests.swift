import Glibc
import Testing

@testable import Process

@Suite struct TreeRemovalTests {
    @Test("a tree goes with its links, and not what they lead to")
    func links() throws {
        let scratch = try ScratchDirectory()
        try Directory.make("\(scratch.path)/kept")
        try DurableFile.write([1], to: "\(scratch.path)/kept/file")
        try Directory.make("\(scratch.path)/tree/deep")
        unsafe symlink("\(scratch.path)/kept", "\(scratch.path)/tree/deep/link")
        try Directory.removeTree("\(scratch.path)/tree/")
        #expect(!fileExists("\(scratch.path)/tree"))
        #expect(fileExists("\(scratch.path)/kept/file"))
        unsafe symlink("\(scratch.path)/kept", "\(scratch.path)/link")
        try Directory.removeTree("\(scratch.path)/link")
        #expect(try listDirectory(scratch.path) == ["kept"])
        try Directory.removeTree("\(scratch.path)/none")
        try Directory.removeTree("\(scratch.path)/none/deeper")
        for name in ["/", ".", "\(scratch.path)/kept/.."] {
            #expect(throws: ProcessError.self) { try Directory.removeTree(name) }
        }
        #expect(fileExists("\(scratch.path)/kept/file"))
    }

    /// Mounts, gives the body the place, and takes the mount away again.
    private func withMount(
        _ arguments: [String], at place: String, _ body: () async throws -> Void
    ) async throws {
        try Directory.make(place)
        let mount = try Child.spawn(ChildOptions(executable: "/bin/mount", arguments: arguments + [place]))
        #expect(await mount.wait() == .exited(0))
        let result: Result<Void, any Error>
        do { result = .success(try await body()) } catch { result = .failure(error) }
        let unmount = try Child.spawn(ChildOptions(executable: "/bin/umount", arguments: ["-l", place]))
        #expect(await unmount.wait() == .exited(0))
        try result.get()
    }

    @Test(
        "what is mounted below is left and named, whether another file system or a part of the same",
        .enabled(if: getuid() == 0), arguments: [false, true])
    func mounts(isBound: Bool) async throws {
        let scratch = try ScratchDirectory()
        let (kept, tree) = ("\(scratch.path)/kept", "\(scratch.path)/tree")
        try Directory.make(kept)
        try DurableFile.write([1], to: "\(kept)/file")
        try Directory.make("\(tree)/other")
        let place = "\(tree)/deep/mounted"
        try await withMount(isBound ? ["--bind", kept] : ["-t", "tmpfs", "none"], at: place) {
            if !isBound { try DurableFile.write([1], to: "\(place)/file") }
            let error = #expect(throws: ProcessError.self) { try Directory.removeTree(tree) }
            #expect(error?.message.hasPrefix("\(place) is mounted and was left as it is") == true)
            #expect(fileExists("\(place)/file"))
            #expect(try listDirectory(tree) == ["deep"], "the rest is gone")
        }
        #expect(!isBound || fileExists("\(kept)/file"))
        try Directory.removeTree(tree)
        #expect(!fileExists(tree))
    }

    @Test("a mounted file is left", .enabled(if: getuid() == 0))
    func mountedFile() async throws {
        let scratch = try ScratchDirectory()
        try Directory.make("\(scratch.path)/tree")
        for name in ["kept", "tree/file"] { try DurableFile.write([1], to: "\(scratch.path)/\(name)") }
        let file = "\(scratch.path)/tree/file"
        let mount = try Child.spawn(
            ChildOptions(executable: "/bin/mount", arguments: ["--bind", "\(scratch.path)/kept", file]))
        #expect(await mount.wait() == .exited(0))
        #expect(throws: ProcessError.self) { try Directory.removeTree("\(scratch.path)/tree") }
        #expect(fileExists(file))
        let unmount = try Child.spawn(ChildOptions(executable: "/bin/umount", arguments: [file]))
        #expect(await unmount.wait() == .exited(0))
    }

    @Test("both ways to tell mounts apart agree")
    func mountIDs() throws {
        let root = unsafe open("/", O_RDONLY)
        let table = unsafe open("/proc", O_RDONLY)
        defer {
            close(root)
            close(table)
        }
        for descriptor in [root, table] {
            #expect(
                try TreeRemoval.mountID(of: descriptor, "it")
                    == TreeRemoval.mountIDFromTable(of: descriptor, "it"))
        }
        #expect(try TreeRemoval.mountID(of: root, "it") != TreeRemoval.mountID(of: table, "it"))
    }

    @Test("names that are not text are removed like others")
    func bytes() throws {
        let scratch = try ScratchDirectory()
        let path = "\(scratch.path)/tree"
        try Directory.make(path)
        let name = path.utf8.map { CChar(bitPattern: $0) } + [0x2F, -1, -2, 0]
        unsafe mkdir(name, 0o700)
        #expect(unsafe access(name, F_OK) == 0)
        try Directory.removeTree(path)
        #expect(!fileExists(path))
    }

    @Test("a tree deeper than there are descriptors is removed")
    func deep() throws {
        let scratch = try ScratchDirectory()
        let path = "\(scratch.path)/tree"
        try Directory.make(path)
        var here = unsafe open(path, O_RDONLY | O_DIRECTORY)
        for _ in 0..<3_000 {
            unsafe mkdirat(here, "d", 0o700)
            let next = unsafe openat(here, "d", O_RDONLY | O_DIRECTORY)
            close(here)
            here = next
        }
        #expect(here >= 0)
        close(here)
        try Directory.removeTree(path)
        #expect(!fileExists(path))
    }

    @Test("directories that deny their owner are opened up first")
    func modes() async throws {
        let scratch = try ScratchDirectory()
        let tree = "\(scratch.path)/tree"
        try Directory.make("\(tree)/a/b")
        try DurableFile.write([1], to: "\(tree)/a/b/file")
        for place in ["\(tree)/a/b", "\(tree)/a", tree] { try FileStatus.setMode(place, 0) }
        if getuid() != 0 {
            try Directory.removeTree(tree)
        } else {
            // Root needs no permission, so the modes of what has to stay are looked at.
            try await withMount(["-t", "tmpfs", "none"], at: "\(tree)/a/b/mounted") {
                #expect(throws: ProcessError.self) { try Directory.removeTree(tree) }
                for place in [tree, "\(tree)/a", "\(tree)/a/b"] {
                    #expect(FileStatus(place)?.mode == 0o700, "\(place)")
                }
            }
            try Directory.removeTree(tree)
        }
        #expect(!fileExists(tree))
    }

    @Test(
        "each entry that cannot be removed is named, and the others go",
        .enabled(if: getuid() == 0, "only root can mount what has to stay"))
    func contents() async throws {
        let scratch = try ScratchDirectory()
        for name in ["one", "two", "three"] { try Directory.make("\(scratch.path)/all/\(name)/deep") }
        try await withMount(["-t", "tmpfs", "none"], at: "\(scratch.path)/all/two/deep/mounted") {
            let failures = try DirectoryEntries(of: "\(scratch.path)/all").remove()
            #expect(failures.count == 1)
            #expect(try listDirectory("\(scratch.path)/all") == ["two"])
        }
        #expect(try DirectoryEntries(of: "\(scratch.path)/all").remove().isEmpty)
        #expect(try listDirectory("\(scratch.path)/all").isEmpty)
    }

    @Test("what comes after the listing stays")
    func late() throws {
        let scratch = try ScratchDirectory()
        let place = "\(scratch.path)/all"
        #expect(try DirectoryEntries(of: place).remove().isEmpty, "there is none")
        try Directory.make("\(place)/early/deep")
        let entries = try DirectoryEntries(of: place)
        try Directory.make("\(place)/late/deep")
        #expect(try entries.remove().isEmpty)
        #expect(try listDirectory(place) == ["late"])
    }
}
