import Foundation
import Wire

/// Where verbs print: the terminal or what stands in its place.
enum Terminal {
    /// Whether somebody looks at stdout.
    static var isInteractive: Bool { isatty(STDOUT_FILENO) == 1 }

    /// Whether somebody looks at stderr, where progress goes.
    static var showsProgress: Bool { isatty(STDERR_FILENO) == 1 }

    /// Columns of the terminal; piped tables are not cut.
    static var width: Int {
        guard isInteractive else { return .max }
        return ProcessInfo.processInfo.environment["COLUMNS"].flatMap { Int($0) } ?? askedWidth ?? 80
    }

    /// The width as stty tells it: the system call behind it cannot be made safely from here.
    private static var askedWidth: Int? {
        let answer = Pipe()
        let stty = Process()
        stty.executableURL = URL(filePath: "/bin/stty")
        stty.arguments = ["-F", "/dev/tty", "size"]
        stty.standardOutput = answer
        stty.standardError = FileHandle.nullDevice
        // Without stty or a terminal the usual width is as good.
        guard (try? stty.run()) != nil else { return nil }
        stty.waitUntilExit()
        let words = String(decoding: answer.fileHandleForReading.availableData, as: UTF8.self).split(
            separator: " ")
        guard let last = words.last, let columns = Int(last.filter(\.isNumber)), columns > 0 else {
            return nil
        }
        return columns
    }

    /// Prints text as it is.
    static func print(_ text: String, terminator: String = "\n") {
        FileHandle.standardOutput.write(Data((text + terminator).utf8))
    }

    /// Prints a message for people on stderr.
    static func complain(_ text: String, prefix: String = "cloudrmm: ") {
        FileHandle.standardError.write(Data("\(prefix)\(text)\n".utf8))
    }

    /// Prints what a device printed: as it is into a file or a pipe, without what could steer a terminal to
    /// one.
    static func print(stdout text: String) {
        print(isInteractive ? harmless(text, keepingLines: true) : text, terminator: "")
    }

    /// The same for its other output.
    static func print(stderr text: String) {
        let shown = showsProgress ? harmless(text, keepingLines: true) : text
        FileHandle.standardError.write(Data(shown.utf8))
    }

    /// Prints progress on stderr: on a terminal it replaces the line before, otherwise it is a line of its
    /// own.
    static func progress(_ text: String) {
        let line =
            showsProgress ? "\r\u{1B}[K" + text.prefix(max(20, width == .max ? 80 : width) - 1) : text + "\n"
        FileHandle.standardError.write(Data(line.utf8))
    }

    /// Ends a line of progress that nothing will replace.
    static func endProgress() {
        if showsProgress { FileHandle.standardError.write(Data("\n".utf8)) }
    }

    /// Prints a value as one line of JSON.
    static func print(json value: some JSONWritable) { print(String(decoding: value.json, as: UTF8.self)) }

    /// Text that comes from a device or a caller, with everything replaced that could steer a terminal.
    static func harmless(_ text: String, keepingLines: Bool = false) -> String {
        String(
            String.UnicodeScalarView(
                text.unicodeScalars.map { scalar in
                    if keepingLines, scalar == "\n" || scalar == "\t" { return scalar }
                    switch scalar.properties.generalCategory {
                    case .control, .format, .lineSeparator, .paragraphSeparator: return "\u{FFFD}"
                    default: return scalar
                    }
                }))
    }
}

/// Rows under titles; on a terminal the widest columns are cut until a line fits.
struct Table {
    private let titles: [String]
    private var rows: [[String]] = []

    init(_ titles: String...) { self.titles = titles }

    mutating func add(_ cells: String...) { rows.append(cells.map { Terminal.harmless($0) }) }

    /// The lines, each at most so wide.
    func lines(width: Int) -> [String] {
        var widths = titles.indices.map { column in
            ([titles] + rows).map { $0[column].count }.max() ?? 0
        }
        let spacing = 2 * (widths.count - 1)
        while width < .max, widths.reduce(spacing, +) > width, let widest = widths.max(), widest > 8,
            let column = widths.firstIndex(of: widest)
        {
            widths[column] -= 1
        }
        return ([titles] + rows).map { cells in
            let padded = zip(cells, widths).map { cell, width in
                let shown = cell.count > width ? cell.prefix(max(0, width - 1)) + "…" : cell[...]
                return shown + String(repeating: " ", count: max(0, width - shown.count))
            }
            return String(padded.joined(separator: "  ").reversed().drop { $0 == " " }.reversed())
        }
    }

    func print() { for line in lines(width: Terminal.width) { Terminal.print(line) } }
}
