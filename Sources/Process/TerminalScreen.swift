import CProcess
import Glibc

/// The terminal that a person sits at.
package enum TerminalScreen {
    /// Lines and columns of the terminal behind a descriptor; `nil` where there is none that says so.
    package static func size(of descriptor: Int32) -> (rows: Int, columns: Int)? {
        var (rows, columns): (Int32, Int32) = (0, 0)
        guard unsafe crmm_terminal_size(descriptor, &rows, &columns) == 0 else { return nil }
        return (Int(rows), Int(columns))
    }

    /// From now on keys come one by one and unechoed, those that would end or stop the process too.
    package static func begin(_ descriptor: Int32) throws(ProcessError) {
        let result = crmm_terminal_begin(descriptor)
        if result < 0 { throw ProcessError(.resource, errno: -result, "the terminal's modes cannot be set") }
    }

    /// The modes of before; does nothing if they are in force.
    package static func end() { crmm_terminal_end() }

    /// Reads keys on a thread of their own, which waits for them until the process ends; nothing at the end
    /// of the input.
    package static func readKeys(
        from descriptor: Int32, _ body: @escaping @Sendable ([UInt8]) -> Void
    ) throws(ProcessError) {
        try startThread("keys") {
            while true {
                // A terminal that is gone has no keys either.
                guard let bytes = try? readSome(descriptor, max: 256), !bytes.isEmpty else { return body([]) }
                body(bytes)
            }
        }
    }
}

/// A terminal without anybody at it: a program runs at one end, whoever holds this is at the other.
package final class PseudoTerminal: Sendable {
    /// What a person would see and type at.
    package let descriptor: Int32
    /// The program's end, as a descriptor and as a path.
    package let programDescriptor: Int32
    package let path: String

    /// A terminal of so many lines and columns.
    package init(rows: Int, columns: Int) throws(ProcessError) {
        var ends: [Int32] = [-1, -1]
        var name = [CChar](repeating: 0, count: 64)
        let result = unsafe crmm_terminal_open(
            &ends, &name, name.count, Int32(rows), Int32(columns))
        if result < 0 { throw ProcessError(.resource, errno: -result, "there is no free terminal") }
        (descriptor, programDescriptor) = (ends[0], ends[1])
        path = String(decoding: name.prefix { $0 != 0 }.map(UInt8.init(bitPattern:)), as: UTF8.self)
    }

    deinit {
        close(descriptor)
        close(programDescriptor)
    }

    /// Gives it another size.
    package func resize(rows: Int, columns: Int) throws(ProcessError) {
        let result = crmm_terminal_resize(descriptor, Int32(rows), Int32(columns))
        if result < 0 { throw ProcessError(.resource, errno: -result, "the terminal keeps its size") }
    }

    /// Whether keys are echoed and come by lines, as for a shell.
    package var isCooked: Bool { crmm_terminal_is_cooked(programDescriptor) == 1 }
}
