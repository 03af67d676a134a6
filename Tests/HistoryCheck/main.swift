import Foundation
import History

// Judges logs of fault runs: HistoryCheck FILE...; prints a line for each violation, ends with 1 if any.
var count = 0
for path in CommandLine.arguments.dropFirst() {
    let history = try History(lines: String(contentsOfFile: path, encoding: .utf8))
    for violation in Checker.violations(in: history) {
        print("\(path): \(violation)")
        count += 1
    }
    print("\(path): \(history.events.count) events")
}
exit(count == 0 && CommandLine.arguments.count > 1 ? 0 : 1)
