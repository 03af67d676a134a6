import Client
import Domain
import Logging
import Process
import Wire

/// The demo's tenant and its one agent on this machine: made once, the same ever after.
struct DemoAgent {
    let directory: String
    let asRoot: Bool
    let logger: Logger

    private var state: String { "\(directory)/demo-agent" }

    /// Makes the partner, organization and site, and enrols the agent, unless that was done before.
    func prepare(_ ready: Ready) async throws {
        try endLeftover()
        guard !fileExists("\(state)/identity.json") else { return }
        let client = APIClient(
            url: ready.apiURL, key: ready.apiKey, certificateAuthority: ready.caCertificate)
        let partner = try await client.createPartner(NewPartner(name: "Demo Partner"))
        let organization = try await client.createOrganization(
            NewOrganization(name: "Demo Organization", partnerId: ID(partner.id.value)))
        let site = try await client.createSite(
            NewSite(name: "Demo Site", organizationId: ID(organization.id.value)))
        let token = try await client.createEnrollmentToken(NewEnrollmentToken(siteId: ID(site.id.value)))
        try Directory.make(state, mode: 0o700)
        if let user { try FileStatus.setOwner(state, userID: user.id, groupID: user.group) }
        let enrol = try Child.spawn(
            options(
                [
                    "enroll", "--api-url", ready.apiURL, "--ca", try publicCopy(of: ready.caCertificate),
                    "--data-dir", state,
                ], environment: [("CLOUDRMM_TOKEN", token.token)]))
        let exit = await enrol.wait()
        guard exit == .exited(0) else { throw CommandError("the demo's agent could not enrol (\(exit))") }
    }

    /// Runs the agent until the task is cancelled, and again if it ends by itself.
    func run() async throws {
        while !Task.isCancelled {
            let agent = try Child.spawn(options(["run", "--data-dir", state]))
            let exit = await withTaskCancellationHandler {
                await agent.wait()
            } onCancel: {
                Self.end(agent)
            }
            guard !Task.isCancelled else { return }
            logger.warning("the demo's agent ended and is started again", metadata: ["exit": "\(exit)"])
            try await Task.sleep(for: .seconds(1))
        }
    }

    /// Asks the agent to end, and three seconds later does not ask any more.
    private static func end(_ agent: Child) {
        // An agent that has ended already needs no signal.
        _ = try? agent.signal(15)
        Task {
            // Nobody cancels this task.
            try? await Task.sleep(for: .seconds(3))
            _ = try? agent.signal(9)  // as above
        }
    }

    /// An agent that outlived a killed parent is ended, so that this start can have its state.
    private func endLeftover() throws {
        guard let pid = try FileLock.holder(of: "\(state)/lock"),
            let agent = ProcessIdentity(pid: pid), agent.commandName?.hasPrefix("cloudrmm-agent") == true
        else { return }
        _ = agent.signal(15)
    }

    private func options(
        _ arguments: [String], environment: [(String, String)] = []
    ) throws -> ChildOptions {
        ChildOptions(
            executable: try siblingExecutable("cloudrmm-agent"), arguments: arguments,
            environment: [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", state), ("LANG", "C.UTF-8")]
                + environment,
            stdin: .null, stdout: .null, stderr: .file("\(directory)/demo-agent.log"), isolation: .session,
            userID: user?.id, groupID: user?.group)
    }

    /// An agent that runs as another user must be able to read the certificate.
    private func publicCopy(of path: String) throws -> String {
        let copy = "\(state)/server-ca-at-enrolment.pem"
        try DurableFile.write(try readFile(path, max: 65_536), to: copy, mode: 0o644)
        if let user { try FileStatus.setOwner(copy, userID: user.id, groupID: user.group) }
        return copy
    }

    private var user: (id: UInt32, group: UInt32)? {
        guard !asRoot, effectiveUserID() == 0 else { return nil }
        // nobody and nogroup have these numbers on Debian.
        return (65_534, 65_534)
    }
}

/// A program that was installed beside this one.
func siblingExecutable(_ name: String) throws -> String {
    let path = "\(Directory.parent(of: try ownExecutablePath()))/\(name)"
    guard fileExists(path) else {
        throw CommandError("\(path) is missing; it is built and installed beside cloudrmm")
    }
    return path
}
