import ArgumentParser
import Client
import Dispatch
import Domain
import Glibc
import Process
import Trust
import Wire

/// Simulated fleets and load, for sizing and benchmarks.
@main
struct CloudRMMLoad: AsyncParsableCommand {
    static let configuration = CommandConfiguration(
        commandName: "cloudrmm-load", abstract: "Simulates agents and submits jobs, and measures.",
        subcommands: [AgentsCommand.self, JobsCommand.self])

    static func main() async {
        CryptoLibrary.outliveExit()
        await main(nil)
    }
}

/// Where the API listens and how it is trusted.
struct APIOptions: ParsableArguments {
    @Option(help: "The API, https://host:port.")
    var apiURL: String

    @Option(help: "A PEM file with the CA of the API's certificate.")
    var ca: String

    /// A client with the key of the environment: arguments are seen by others.
    func client() throws -> APIClient {
        guard let key = environmentVariable("CLOUDRMM_API_KEY"), !key.isEmpty else {
            throw ValidationError("the environment has no CLOUDRMM_API_KEY")
        }
        return APIClient(url: apiURL, key: key, certificateAuthority: ca)
    }
}

extension ID: ExpressibleByArgument {
    /// The identifier of canonical text.
    package init?(argument: String) {
        guard let id = ID(argument) else { return nil }
        self = id
    }
}

/// Runs work off the main actor until it is done or the process is asked to end, which cancels it.
@concurrent
func untilAskedToEnd(_ work: @escaping @Sendable () async throws -> Void) async throws {
    let task = Task { try await work() }
    let signals = [SIGTERM, SIGINT].map { number in
        signal(number, SIG_IGN)
        let source = DispatchSource.makeSignalSource(signal: number, queue: .global())
        source.setEventHandler { task.cancel() }
        source.resume()
        return source
    }
    defer { for source in signals { source.cancel() } }
    try await task.value
}

/// Prints one object as a line of its own.
func printLine(_ members: (inout JSONWriter) -> Void) {
    var writer = JSONWriter()
    writer.object(members)
    print(String(decoding: writer.bytes, as: UTF8.self))
    // Also when the output is a file or a pipe, a line a second is wanted when it is due.
    fflush(nil)
}
