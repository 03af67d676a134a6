import Glibc
import Process
import Testing

@Suite struct FileTests {
    private func mode(_ path: String) -> UInt32 {
        var status = stat()
        unsafe stat(path, &status)
        return status.st_mode & 0o7777
    }

    @Test("a durable file is replaced as a whole, with its mode and nothing left beside it")
    func durable() throws {
        let scratch = try ScratchDirectory()
        let path = "\(scratch.path)/state"
        try DurableFile.write([1, 2, 3], to: path, mode: 0o640)
        try DurableFile.write([4], to: path, mode: 0o600)
        #expect(try readFile(path, max: 10) == [4])
        #expect(mode(path) == 0o600)
        #expect(try listDirectory(scratch.path) == ["state"])
    }

    @Test("a failed replacement leaves the old content and no temporary file")
    func failedReplacement() throws {
        let scratch = try ScratchDirectory()
        try Directory.make("\(scratch.path)/taken/inside")
        let error = #expect(throws: ProcessError.self) {
            try DurableFile.write([1], to: "\(scratch.path)/taken")
        }
        #expect(error?.code == .file)
        #expect(try listDirectory(scratch.path) == ["taken"])
    }

    @Test("an append file keeps what is there, also when opened again")
    func append() throws {
        let scratch = try ScratchDirectory()
        let path = "\(scratch.path)/journal"
        try AppendFile(path).append([1, 2])
        let file = try AppendFile(path)
        try file.append([3])
        #expect(try readFile(path, max: 10) == [1, 2, 3])
        try file.truncate(to: 1)
        try file.append([9])
        #expect(try readFile(path, max: 10) == [1, 9])
        try file.replace(with: [7, 7])
        try file.append([8])
        #expect(try readFile(path, max: 10) == [7, 7, 8])
        #expect(try listDirectory(scratch.path) == ["journal"])
        #expect(mode(path) == 0o600)
    }

    @Test("reading takes a file of exactly the limit and refuses one byte more")
    func readLimit() throws {
        let scratch = try ScratchDirectory()
        let path = "\(scratch.path)/file"
        try DurableFile.write([UInt8](repeating: 7, count: 100_000), to: path)
        #expect(try readFile(path, max: 100_000).count == 100_000)
        let error = #expect(throws: ProcessError.self) { try readFile(path, max: 99_999) }
        #expect(error?.errno == EFBIG)
        #expect(throws: ProcessError.self) { try readFile("\(scratch.path)/none", max: 1) }
    }

    @Test("directories are made with parents and mode, twice without harm, and not over a file")
    func directories() throws {
        let scratch = try ScratchDirectory()
        try Directory.make("\(scratch.path)/a/b/c", mode: 0o711)
        try Directory.make("\(scratch.path)/a/b/c", mode: 0o700)
        #expect(mode("\(scratch.path)/a/b") == 0o711 && mode("\(scratch.path)/a/b/c") == 0o711)
        try DurableFile.write([], to: "\(scratch.path)/file")
        #expect(fileExists("\(scratch.path)/file") && !fileExists("\(scratch.path)/none"))
        let error = #expect(throws: ProcessError.self) { try Directory.make("\(scratch.path)/file") }
        #expect(error?.errno == EEXIST)
        #expect(try listDirectory(scratch.path) == ["a", "file"])
        try removeFile("\(scratch.path)/file")
        try removeFile("\(scratch.path)/file")
        #expect(try listDirectory(scratch.path) == ["a"])
        #expect(throws: ProcessError.self) { try listDirectory("\(scratch.path)/none") }
    }

    @Test("a lock has one holder, whose pid the refusal names, and is free after release")
    func lock() throws {
        let scratch = try ScratchDirectory()
        let path = "\(scratch.path)/lock"
        #expect(try FileLock.holder(of: path) == nil)
        let first = try FileLock(path)
        let error = #expect(throws: ProcessError.self) { try FileLock(path) }
        #expect(error?.code == .locked)
        #expect(error?.message.contains("process \(getpid())") == true)
        #expect(try FileLock.holder(of: path) == getpid())
        first.release()
        #expect(try FileLock.holder(of: path) == nil)
        _ = try FileLock(path)
    }

    @Test("a lock whose holder was killed is stale and taken over")
    func staleLock() async throws {
        let scratch = try ScratchDirectory()
        let path = "\(scratch.path)/lock"
        var options = shell("exec 9>>\(path); flock -n 9 && echo $$ >&9; echo ready; exec sleep 600")
        options.stdin = .null
        let child = try Child.spawn(options)
        var ready: [UInt8] = [0, 0, 0, 0, 0, 0]
        #expect(unsafe read(child.stdoutFD, &ready, 6) == 6)
        #expect(try FileLock.holder(of: path) == child.pid)
        let error = #expect(throws: ProcessError.self) { try FileLock(path) }
        #expect(error?.message.contains("process \(child.pid)") == true)
        try child.signal(SIGKILL)
        #expect(await child.wait() == .signaled(SIGKILL))
        _ = try FileLock(path)
    }

    @Test("a child that was given the lock holds it after its parent let go")
    func lockInChild() async throws {
        let scratch = try ScratchDirectory()
        let path = "\(scratch.path)/lock"
        let lock = try FileLock(path)
        var options = shell("echo ready; exec sleep 600")
        options.stdin = .descriptor(lock.heldDescriptor)
        let child = try Child.spawn(options)
        lock.release()
        #expect(throws: ProcessError.self) { try FileLock(path) }
        try child.signal(SIGKILL)
        _ = await child.wait()
        _ = try FileLock(path)
    }
}
