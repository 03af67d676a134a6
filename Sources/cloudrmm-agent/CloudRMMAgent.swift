import Agent
import Dispatch
import Domain
import Faults
import Glibc
import Logging
import NIOCore
import NIOPosix
import Process
import Trust
import Wire

/// The program on a device: enrolls it, runs its agent, says how it is.
@main
enum CloudRMMAgent {
    /// How long a stop may take before the process ends anyway.
    static let stopSeconds = 5

    static func main() async {
        CryptoLibrary.outliveExit()
        do { try FaultPoint.arm(from: environmentVariable) } catch {
            await complain("\(error)")
            exit(2)
        }
        await exit(perform(Array(CommandLine.arguments.dropFirst())))
    }

    /// Off the main actor, so that frames and runs never wait for a hop to it.
    @concurrent
    private static func perform(_ arguments: [String]) async -> Int32 {
        do {
            switch try AgentCommand(
                arguments, token: environmentVariable(AgentCommand.tokenVariable))
            {
            case .help: print(AgentCommand.usage, terminator: "")
            case .version: print("cloudrmm-agent \(EnrolledAgent.version)")
            case .enroll(let apiURL, let caPath, let token, let path):
                try enroll(apiURL: apiURL, caPath: caPath, token: token.read(), into: DataDirectory(path))
            case .run(let path, let renews): try await run(DataDirectory(path), renewsNow: renews)
            case .status(let path, let asJSON): try status(DataDirectory(path), asJSON: asJSON)
            }
            return 0
        } catch let error as AgentError {
            await complain(error.description)
            if error.code == .invalid { await complain("see cloudrmm-agent help") }
            return exitCode(of: error.code)
        } catch let error as ProcessError {
            await complain(error.message)
            return error.code == .locked ? 5 : 1
        } catch {
            await complain("\(error)")
            return 1
        }
    }

    private static func exitCode(of code: AgentError.Code) -> Int32 {
        switch code {
        case .invalid: 2
        case .refused: 3
        case .notEnrolled, .alreadyEnrolled: 4
        case .untrusted: 6
        default: 1
        }
    }

    private static func enroll(apiURL: String, caPath: String, token: String, into directory: DataDirectory)
        throws
    {
        let ca: [UInt8]
        do {
            ca = try readFile(caPath, max: 1 << 20)
        } catch {
            throw AgentError(.invalid, "the CA file cannot be read", cause: error)
        }
        let enroller = try Enroller(
            apiURL: apiURL, token: token, serverCA: String(decoding: ca, as: UTF8.self))
        let identity = try enroller.enroll(into: directory, now: Instant.now())
        print("enrolled device \(identity.verifier.device) of organization \(identity.verifier.organization)")
    }

    private static func run(_ directory: DataDirectory, renewsNow: Bool) async throws {
        LoggingSystem.bootstrap { StreamLogHandler.standardError(label: $0) }
        // Orphans of a script's tree stay within reach; from here on all children are made by `Process`.
        try ProcessTree.adoptOrphans()
        let agent = try EnrolledAgent(
            directory: directory, now: Instant.now, renewsNow: renewsNow,
            logger: Logger(label: "cloudrmm-agent"))
        let signals = [SIGTERM, SIGINT].map { number in
            signal(number, SIG_IGN)
            let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
            source.setEventHandler {
                agent.stop()
                // What is not done by then is settled by the next start.
                DispatchQueue.global().asyncAfter(deadline: .now() + .seconds(stopSeconds)) { _exit(1) }
            }
            source.resume()
            return source
        }
        defer { for source in signals { source.cancel() } }
        try await agent.run()
    }

    private static func status(_ directory: DataDirectory, asJSON: Bool) throws {
        let status = try AgentStatus(directory)
        print(asJSON ? String(decoding: status.json, as: UTF8.self) : status.text)
    }

    /// One sentence on standard error.
    private static func complain(_ sentence: String) async {
        let handle = NIOFileHandle(_deprecatedTakingOwnershipOfDescriptor: STDERR_FILENO)
        // There is nobody to tell that standard error is closed.
        try? await NonBlockingFileIO(threadPool: .singleton)
            .write(fileHandle: handle, buffer: ByteBuffer(string: "cloudrmm-agent: \(sentence)\n"))
        // The descriptor is not this handle's to close; it is open, so giving it back cannot fail.
        _ = try? handle.takeDescriptorOwnership()
    }
}
