// Measures the queue alone on servers that run: no API, no gateway's sessions, no agents. Usage:
//
//     QueueBench VERB DATABASE-URL REDIS-URL [NAME=VALUE…]
//
// It empties the database's tables and the Redis server. Prints one JSON object a measurement.
import Domain
import Foundation

let arguments = CommandLine.arguments
guard arguments.count >= 4 else {
    print("usage: QueueBench VERB DATABASE-URL REDIS-URL [NAME=VALUE…]")
    exit(2)
}

@concurrent func run() async -> Int32 {
    var values: [String: Int] = [:]
    for word in arguments.dropFirst(4) {
        let parts = word.split(separator: "=")
        guard parts.count == 2, let number = Int(parts[1]) else {
            print("\(word) is not NAME=NUMBER")
            return 2
        }
        values[String(parts[0])] = number
    }
    do {
        let bed = try await Bed(databaseURL: arguments[2], redisURL: arguments[3])
        let measure = Measure(bed: bed, values: values)
        try await measure.run(arguments[1])
        await bed.close()
        return 0
    } catch {
        print("\(error)")
        return 1
    }
}

exit(await run())
