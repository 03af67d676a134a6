import Foundation
import Process

/// Asks the person at the terminal.
enum Prompt {
    /// Whether there is a person to be asked.
    static var hasTerminal: Bool { isatty(STDIN_FILENO) == 1 }

    /// A line; without a terminal, the next line of stdin.
    static func line(_ question: String) throws -> String {
        if hasTerminal { FileHandle.standardError.write(Data(question.utf8)) }
        guard let line = readLine(strippingNewline: true), !line.isEmpty else {
            throw Failure(.usage, "\(question.trimmingCharacters(in: .whitespaces)) nothing was given")
        }
        return line
    }

    /// A line that is not shown while it is typed.
    static func secret(_ question: String) throws -> String {
        guard hasTerminal else { return try line(question) }
        defer { FileHandle.standardError.write(Data("\n".utf8)) }
        return try withoutEcho { try line(question) }
    }
}
