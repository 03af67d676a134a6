// Measures the queue alone on servers that run: no API, no gateway's sessions, no agents. Usage:
//
//     QueueBench VERB DATABASE-URL REDIS-URL [NAME=VALUE…]
//     QueueBench producer DATABASE-URL REDIS-URL WORD…
//
// It empties the database's tables and the Redis server, but for `producer` and `worker`, which go on where
// `prepare` ended. Prints one JSON object a measurement.
import Domain
import Foundation

let arguments = CommandLine.arguments
guard arguments.count >= 4 else {
    print("usage: QueueBench VERB DATABASE-URL REDIS-URL [NAME=VALUE…]")
    exit(2)
}

@concurrent func run() async -> Int32 {
    let verb = arguments[1]
    var values: [String: Int] = [:]
    for word in arguments.dropFirst(4) where verb != "producer" {
        let parts = word.split(separator: "=")
        guard parts.count == 2, let number = Int(parts[1]) else {
            print("\(word) is not NAME=NUMBER")
            return 2
        }
        values[String(parts[0])] = number
    }
    do {
        let bed = try await Bed(
            databaseURL: arguments[2], redisURL: arguments[3],
            isFresh: !["producer", "worker"].contains(verb))
        let measure = Measure(bed: bed, values: values, words: Array(arguments.dropFirst(4)))
        try await measure.run(verb)
        await bed.close()
        return 0
    } catch {
        print("\(error)")
        return 1
    }
}

exit(await run())
