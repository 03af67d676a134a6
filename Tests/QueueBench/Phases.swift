import Foundation

/// Parts of a measurement that whoever started it measures from outside: by the counters of the servers, or
/// by the instructions that one of them takes.
///
/// Before and after each a line is printed, `begin NAME COUNT` and `end NAME COUNT`, and a line on standard
/// input is waited for. Nothing is printed unless `phases=1` was said.
extension Measure {
    func phase<Value>(
        _ name: String, _ count: (Value) -> Int, _ body: () async throws -> Value
    ) async throws -> Value {
        guard value("phases", 0) == 1 else { return try await body() }
        try signal("begin \(name) 0")
        let value = try await body()
        try signal("end \(name) \(count(value))")
        return value
    }

    private func signal(_ line: String) throws {
        print(line)
        fflush(nil)
        guard readLine() != nil else { throw BenchError("nobody measures the phases") }
    }
}
