import Logging
import Process
import Testing

@testable import Agent

@Suite("Data directory") struct DataDirectoryTests {
    private let fixture: Fixture

    init() throws { fixture = try Fixture() }

    private func start(_ directory: DataDirectory) throws {
        _ = try EnrolledAgent(directory: directory, now: { fixture.now }, logger: Logger(label: "test"))
    }

    @Test("a directory that others can write is refused", arguments: [0o720, 0o702, 0o777] as [UInt32])
    func mode(_ mode: UInt32) throws {
        let directory = try fixture.directory(gatewayPort: 1)
        try FileStatus.setMode(directory.path, mode)
        let error = #expect(throws: AgentError.self) { try start(directory) }
        #expect(error?.code == .invalid && error?.message.contains("can be written by others") == true)
        #expect(throws: AgentError.self) { try directory.takeLock() }
        try FileStatus.setMode(directory.path, 0o755)
        try directory.takeLock().release()
        try Directory.removeTree(directory.path)
    }

    @Test("another user's directory is refused", .enabled(if: effectiveUserID() == 0))
    func owner() throws {
        let directory = try fixture.directory(gatewayPort: 1)
        try FileStatus.setOwner(directory.path, userID: 65_534, groupID: 65_534)
        let error = #expect(throws: AgentError.self) { try start(directory) }
        #expect(error?.code == .invalid && error?.message.contains("belongs to user 65534") == true)
        #expect(try AgentStatus(directory).text.contains("not running"), "it may be looked at")
        try Directory.removeTree(directory.path)
    }
}
