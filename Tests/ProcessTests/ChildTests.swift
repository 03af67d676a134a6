import Glibc
import Process
import Testing

@Suite struct ChildTests {
    @Test("an exit code arrives as it was given", arguments: [0, 3, 255] as [Int32])
    func exitCode(code: Int32) async throws {
        let child = try Child.spawn(shell("exit \(code)"))
        #expect(await child.wait() == .exited(code))
        #expect(await child.wait() == .exited(code), "a second wait gets the same answer")
    }

    @Test("a child ended by a signal says which")
    func signaled() async throws {
        let child = try Child.spawn(shell("exec sleep 600"))
        #expect(try child.signal(SIGUSR1))
        #expect(await child.wait() == .signaled(SIGUSR1))
        #expect(try !child.signal(SIGUSR1), "nothing is sent to a collected child")
        #expect(try !child.signalGroup(SIGUSR1))
    }

    @Test("a failed exec is an error with its errno, not an exit code")
    func execError() throws {
        let missing = #expect(throws: ProcessError.self) {
            try Child.spawn(ChildOptions(executable: "/nonexistent/program"))
        }
        #expect(missing?.code == .spawn)
        #expect(missing?.errno == ENOENT)
        #expect(missing?.message.contains("/nonexistent/program") == true)
        let refused = #expect(throws: ProcessError.self) {
            try Child.spawn(ChildOptions(executable: "/etc/passwd"))
        }
        #expect(refused?.errno == EACCES)
    }

    @Test("a missing working directory is named")
    func directoryError() throws {
        let error = #expect(throws: ProcessError.self) {
            try Child.spawn(ChildOptions(executable: "/bin/true", workingDirectory: "/nonexistent/place"))
        }
        #expect(error?.errno == ENOENT)
        #expect(error?.message.contains("/nonexistent/place") == true)
    }

    @Test(
        "what would reach the program changed is refused",
        arguments: [
            ChildOptions(executable: "bin/true"),
            ChildOptions(executable: "/bin/true", arguments: ["a\0b"]),
            ChildOptions(executable: "/bin/true", environment: [("A", "x\0y")]),
            ChildOptions(executable: "/bin/true", environment: [("A=B", "x")]),
            ChildOptions(executable: "/bin/true", environment: [("", "x")]),
            ChildOptions(executable: "/bin/true", workingDirectory: "/tmp\0/x"),
        ])
    func invalid(options: ChildOptions) throws {
        let error = #expect(throws: ProcessError.self) { try Child.spawn(options) }
        #expect(error?.code == .invalid)
    }

    @Test("the environment is exactly the given one, the arguments arrive byte by byte")
    func environment() async throws {
        let environment = [("A", "1"), ("EMPTY", ""), ("ÜML", "größe = 'x'\nzwei")]
        let child = try Child.spawn(ChildOptions(executable: "/usr/bin/env", environment: environment))
        #expect(text(readToEnd(child.stdoutFD)) == "A=1\nEMPTY=\nÜML=größe = 'x'\nzwei\n")
        let echo = try Child.spawn(
            ChildOptions(executable: "/usr/bin/printf", arguments: ["%s|", "a b", "", "$x\n"]))
        #expect(text(readToEnd(echo.stdoutFD)) == "a b||$x\n|")
        #expect(await child.wait() == .exited(0))
    }

    @Test("the child starts in its working directory with the streams it was given")
    func streams() async throws {
        let scratch = try ScratchDirectory()
        var options = shell("pwd; cat; echo oops >&2")
        options.workingDirectory = scratch.path
        options.stdin = .pipe
        options.stderr = .file("\(scratch.path)/log")
        let child = try Child.spawn(options)
        _ = unsafe write(child.stdinFD, "from the pipe", 13)
        child.closeStdin()
        #expect(text(readToEnd(child.stdoutFD)) == "\(scratch.path)\nfrom the pipe")
        #expect(await child.wait() == .exited(0))
        #expect(text(try readFile("\(scratch.path)/log", max: 100)) == "oops\n")
    }

    @Test("no descriptor but the three streams reaches the child, and signals are back to normal")
    func descriptors() async throws {
        let leaked = unsafe open("/dev/null", O_RDONLY)
        defer { close(leaked) }
        #expect(leaked > 2)
        let child = try Child.spawn(shell("ls /proc/self/fd; grep -E '^Sig(Blk|Ign)' /proc/self/status"))
        // The fourth is that of ls on the directory itself.
        let expected = "0\n1\n2\n3\nSigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n"
        #expect(text(readToEnd(child.stdoutFD)) == expected)
        #expect(await child.wait() == .exited(0))
    }

    @Test("a dropped child gives its descriptors back")
    func noLeak() async throws {
        // Others run in parallel and hold descriptors of their own, so this looks at the numbers of these
        // alone.
        for _ in 0..<20 {
            var options = shell("cat")
            options.stdin = .pipe
            var child: Child? = try Child.spawn(options)
            let inode = try #require(child.map { pipeInode($0.stdoutFD) })
            #expect(ownPipeInodes().contains(inode))
            child = nil
            #expect(!ownPipeInodes().contains(inode))
        }
    }

    @Test("limits of resources hold in the child")
    func limits() async throws {
        var options = shell("ulimit -n; ulimit -c")
        options.limits = ChildOptions.Limits(openFilesMax: 64, coreBytesMax: 0)
        let child = try Child.spawn(options)
        #expect(text(readToEnd(child.stdoutFD)) == "64\n0\n")
        #expect(await child.wait() == .exited(0))
    }

    @Test("a child has a group or session of its own, or shares the parent's", arguments: [0, 1, 2])
    func isolation(kind: Int) async throws {
        var options = shell("cut -d' ' -f5,6 /proc/self/stat")
        options.isolation = [.shared, .processGroup, .session][kind]
        let child = try Child.spawn(options)
        let expected = [
            "\(getpgrp()) \(getsid(0))", "\(child.pid) \(getsid(0))", "\(child.pid) \(child.pid)",
        ][kind]
        #expect(text(readToEnd(child.stdoutFD)) == expected + "\n")
        #expect(await child.wait() == .exited(0))
    }

    @Test("another user is taken with exactly its groups, by root only")
    func user() async throws {
        var options = ChildOptions(executable: "/usr/bin/id", arguments: ["-G"], stderr: .null)
        options.userID = 65534
        options.groupID = 65534
        options.supplementaryGroups = [65534, 4]
        if getuid() == 0 {
            let child = try Child.spawn(options)
            #expect(text(readToEnd(child.stdoutFD)) == "65534 4\n")
            #expect(await child.wait() == .exited(0))
        } else {
            let immutable = options
            let error = #expect(throws: ProcessError.self) { try Child.spawn(immutable) }
            #expect(error?.errno == EPERM)
        }
    }

    private func pipeInode(_ descriptor: Int32) -> UInt {
        var status = stat()
        unsafe fstat(descriptor, &status)
        return status.st_ino
    }

    private func ownPipeInodes() -> Set<UInt> {
        Set((0..<1024).map { pipeInode($0) })
    }
}
