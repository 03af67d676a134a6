import Foundation
import History
import Process
import Synchronization

/// What was seen of a fault run, gathered while it goes on.
final class EventLog: Sendable {
    private let events = Mutex<[Event]>([])

    /// Notes what was seen now, or at the time that is said.
    func note(_ kind: Event.Kind, at time: Int? = nil, _ particulars: (inout Event) -> Void) {
        var event = Event(kind, at: time ?? Self.now())
        particulars(&event)
        events.withLock { [event] in $0.append(event) }
    }

    func note(_ kind: Event.Kind, _ what: String) { note(kind) { $0.note = what } }

    /// All of it.
    var history: History { History(events: events.withLock { $0 }) }

    /// Keeps it in the directory that CLOUDRMM_FAULT_LOGS names, if there is one, with what the programs of a
    /// directory have complained of.
    func keep(as name: String, complaints programs: String) throws {
        guard let directory = environmentVariable("CLOUDRMM_FAULT_LOGS") else { return }
        for file in try listDirectory(programs) where file.hasSuffix(".err") {
            let text = try readFile("\(programs)/\(file)", max: 64 << 20)
            try DurableFile.write(text, to: "\(directory)/\(name)-\(file)", mode: 0o644)
        }
        try DurableFile.write(
            Array(history.lines().utf8), to: "\(directory)/\(name).jsonl", mode: 0o644)
    }

    /// Microseconds since 1970.
    static func now() -> Int { Int(Date().timeIntervalSince1970 * 1_000_000) }
}
