// Starts the servers for a test, says so, and stops them when its input ends. Usage: EmbeddedProbe
// DATA-DIRECTORY. Prints "ready", the superuser's URL and Redis' administrator's, a line each.
import Embedded
import Glibc
import Logging
import Process

let arguments = CommandLine.arguments

func say(_ text: String) {
    // Without a reader there is nobody to tell.
    try? writeAll(Array(text.utf8), to: 1, path: "standard output")
}

@concurrent func run() async -> Int32 {
    do {
        let options = EmbeddedOptions(dataDirectory: arguments[1])
        let servers = try await EmbeddedServers.start(options, logger: Logger(label: "probe"))
        let lines = "ready\n\(try servers.postgresSuperuserURL)\n\(try servers.redisAdminURL)\n"
        say(lines)
        try await onOwnThread("probe-input") { _ = getchar() }
        await servers.stop()
        return 0
    } catch {
        say("\(error)\n")
        return 1
    }
}

_exit(await run())
