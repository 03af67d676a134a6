import Glibc
import Process
import Testing

@Suite struct ProcessTreeTests {
    /// Starts the script, waits until it has said "ready", and returns the child with its tree.
    private func start(_ script: String) throws -> (Child, ProcessTree, marker: String) {
        let marker = try randomBytes(8).map { String($0, radix: 16) }.joined(separator: "-")
        let environment = [("PATH", "/usr/bin:/bin"), (ProcessTree.markerName, marker)]
        let child = try Child.spawn(shell(script, environment: environment))
        var said: [UInt8] = []
        var byte: UInt8 = 0
        while !said.elementsEqual("ready\n".utf8), unsafe read(child.stdoutFD, &byte, 1) == 1 {
            said.append(byte)
        }
        return (child, ProcessTree(root: child.pid, marker: marker), marker)
    }

    @Test(
        "the whole tree is found and killed: group, setsid, double fork, TERM ignored",
        arguments: [
            "trap '' TERM; sleep 600 & echo ready; wait",
            "setsid sh -c 'trap \"\" TERM; echo ready; sleep 600 & wait' & wait",
            "(setsid sh -c 'sleep 600 & echo ready; wait' &); sleep 600",
            "(env -i /usr/bin/sleep 600 &); echo ready; sleep 600",
        ])
    func kill(script: String) async throws {
        var (child, tree, marker) = try start(script)
        let members = tree.members()
        #expect(members.count >= 2)
        let isGone = tree.kill()
        #expect(isGone)
        let left = tree.members()
        #expect(left.isEmpty)
        #expect(ProcessTree.members(marker: marker).isEmpty)
        #expect(await child.wait() == .signaled(SIGKILL))
        #expect(readToEnd(child.stdoutFD).isEmpty, "nobody holds the pipe any more")
    }

    @Test("a tree that forks without pause does not get away")
    func forkStorm() async throws {
        var (child, tree, _) = try start("echo ready; f() { sleep 0.01; f & }; f & f & f & sleep 600")
        let isGone = tree.kill()
        #expect(isGone)
        let left = tree.members()
        #expect(left.isEmpty)
        #expect(await child.wait() == .signaled(SIGKILL))
    }

    @Test("orphans of a leader that has ended are found by their marker")
    func orphans() async throws {
        var (child, tree, marker) = try start("setsid sh -c 'exec >&-; sleep 600 & wait' & echo ready; wait")
        try child.signal(SIGKILL)
        #expect(await child.wait() == .signaled(SIGKILL))
        #expect(!ProcessTree.members(marker: marker).isEmpty)
        tree.signal(SIGTERM)
        let isGone = tree.kill()
        #expect(isGone)
        #expect(ProcessTree.members(marker: marker).isEmpty)
    }

    @Test("other runs and the own process are not members")
    func others() async throws {
        var (first, tree, _) = try start("echo ready; sleep 600")
        var (second, other, _) = try start("echo ready; sleep 600")
        let (members, others) = (tree.members(), other.members())
        #expect(members.count == 2 && others.count == 2)
        #expect(Set(members).isDisjoint(with: others))
        #expect(!members.contains { $0.pid == getpid() })
        let isGone = tree.kill()
        #expect(isGone)
        #expect(second.exit == nil)
        let otherIsGone = other.kill()
        #expect(otherIsGone)
        _ = await (first.wait(), second.wait())
    }

    @Test("an identity is not that of another process with the same number")
    func identity() async throws {
        let child = try Child.spawn(shell("exec sleep 600"))
        let identity = try #require(ProcessIdentity(pid: child.pid))
        #expect(identity.isRunning)
        #expect(identity.signal(SIGKILL))
        _ = await child.wait()
        #expect(!identity.isRunning)
        #expect(!identity.signal(SIGKILL))
        #expect(ProcessIdentity(pid: child.pid) != identity)
    }

    @Test("a child's identity is known however soon it ends")
    func earlyEnd() async throws {
        for _ in 0..<20 {
            let child = try Child.spawn(shell("exit 0"))
            _ = await child.wait()
            #expect(child.identity?.pid == child.pid)
        }
    }

    @Test(
        "what a leader of an earlier process left is found by session and group, until its number is reused")
    func leftBehind() async throws {
        var options = shell("(exec >&-; exec sleep 600) & echo ready")
        options.isolation = .session
        options.environment = [("PATH", "/usr/bin:/bin")]
        let child = try Child.spawn(options)
        #expect(text(readToEnd(child.stdoutFD)) == "ready\n")
        _ = await child.wait()
        let leader = try #require(child.identity)
        var tree = ProcessTree(left: leader, marker: "nobody's")
        #expect(tree.members().count == 1)
        var later = ProcessTree(
            left: ProcessIdentity(pid: leader.pid, startTicks: leader.startTicks + 1_000), marker: "nobody's")
        #expect(later.members().isEmpty, "it began before that leader")
        let isGone = tree.kill()
        #expect(isGone)

        let other = try Child.spawn(shell("exec sleep 600"))
        let reused = try #require(other.identity)
        var stale = ProcessTree(
            left: ProcessIdentity(pid: reused.pid, startTicks: reused.startTicks - 1), marker: "nobody's")
        #expect(stale.members().isEmpty, "the number is another's now")
        #expect(reused.signal(SIGKILL))
        _ = await other.wait()
    }

    @Test("an orphan that dropped its marker is collected and belongs to the only run there is")
    func stray() async throws {
        // For good, which does no harm here: all children of the tests are made by Child.spawn.
        try ProcessTree.adoptOrphans()
        var (child, tree, marker) = try start("(setsid env -i sleep 600 >/dev/null &); echo ready; sleep 600")
        let withoutStrays = tree.members()
        tree.claimsStrays = true
        // It takes until its exec to drop the marker, and until its parent's end to become an orphan.
        var strays: [ProcessIdentity] = []
        while strays.isEmpty {
            strays = tree.members().filter { !ProcessTree.members(marker: marker).contains($0) }
            await Task.yield()
        }
        #expect(!withoutStrays.isEmpty)
        var rootless = ProcessTree(root: nil, marker: "nobody's")
        rootless.claimsStrays = true
        #expect(rootless.members().isEmpty, "who does not know its root claims nothing")
        #expect(strays.allSatisfy { $0.pid != child.pid })
        let isGone = tree.kill()
        #expect(isGone)
        #expect(await child.wait() == .signaled(SIGKILL))
        while strays.contains(where: { ProcessIdentity(pid: $0.pid) == $0 }) { await Task.yield() }
    }
}
