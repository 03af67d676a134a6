import Glibc

/// One argument of a command.
package enum RedisArgument: Sendable, Equatable, ExpressibleByStringLiteral, ExpressibleByIntegerLiteral {
    case string(String)
    case int(Int)
    case bytes([UInt8])
    /// Sent with 17 significant digits, so that the server reads the very same number.
    case double(Double)

    /// A text as it stands.
    package init(stringLiteral value: String) { self = .string(value) }
    /// A whole number, sent as decimal text.
    package init(integerLiteral value: Int) { self = .int(value) }
}

/// A command with its arguments, already encoded as the server reads it (RESP arrays of bulk strings).
///
/// The arguments lie back to back in one buffer, each as `$<length>\r\n<bytes>\r\n`; only the count in front
/// of them is missing until the command is sent. So encoding is done by the caller, and the connection's
/// thread copies.
package struct RedisCommand: Sendable {
    private var encoded: [UInt8] = []
    private var count = 0
    /// The command's name, for messages: never its arguments.
    package let name: String
    /// Beside which key a command without keys is carried out; nil for anywhere.
    private(set) var place: [UInt8]?

    /// A command with arguments that are known by number.
    package init(_ name: String, _ arguments: RedisArgument...) {
        self.init(name, arguments: arguments)
    }

    /// A command with any number of arguments.
    package init(_ name: String, arguments: [RedisArgument]) {
        self.name = name
        append(contentsOf: [.string(name)], and: arguments)
    }

    /// Adds one argument at the end.
    package mutating func append(_ argument: RedisArgument) {
        append(contentsOf: [], and: [argument])
    }

    /// Adds arguments at the end.
    package mutating func append(contentsOf arguments: some Sequence<RedisArgument>) {
        append(contentsOf: [], and: Array(arguments))
    }

    private mutating func append(contentsOf first: [RedisArgument], and others: [RedisArgument]) {
        let room = first.reduce(0) { $0 + $1.room } + others.reduce(0) { $0 + $1.room }
        let bulks = unsafe [UInt8](unsafeUninitializedCapacity: room) { memory, filled in
            var writer = unsafe BulkWriter(memory)
            for argument in first { writer.write(argument) }
            for argument in others { writer.write(argument) }
            filled = writer.count
        }
        if encoded.isEmpty { encoded = bulks } else { encoded += bulks }
        count += first.count + others.count
    }

    /// The same command, which names no key, for that node of a cluster which has this key: `SCAN`, `INFO`.
    package func near(_ key: String) -> RedisCommand {
        var command = self
        command.place = Array(key.utf8)
        return command
    }

    /// Its arguments, the name first, as they were encoded.
    var arguments: [ArraySlice<UInt8>] {
        var found: [ArraySlice<UInt8>] = []
        found.reserveCapacity(count)
        var rest = encoded[...]
        while let (argument, next) = Self.firstBulk(rest) {
            found.append(argument)
            rest = next
        }
        return found
    }

    /// Reads `$<length>\r\n<bytes>\r\n`.
    private static func firstBulk(
        _ bytes: ArraySlice<UInt8>
    ) -> (ArraySlice<UInt8>, rest: ArraySlice<UInt8>)? {
        guard !bytes.isEmpty else { return nil }
        var length = 0
        var at = bytes.startIndex + 1
        while bytes[at] != UInt8(ascii: "\r") {
            length = length * 10 + Int(bytes[at] - UInt8(ascii: "0"))
            at += 1
        }
        return (bytes[(at + 2)..<(at + 2 + length)], bytes[(at + 4 + length)...])
    }

    /// Writes the whole command to the end of `buffer`.
    func encode(into buffer: inout [UInt8]) {
        buffer.append(UInt8(ascii: "*"))
        if count < 10 {
            buffer.append(UInt8(ascii: "0") + UInt8(count))
        } else {
            buffer.append(contentsOf: String(count).utf8)
        }
        buffer.append(UInt8(ascii: "\r"))
        buffer.append(UInt8(ascii: "\n"))
        buffer.append(contentsOf: encoded)
    }

    /// At least as many bytes as an argument of so many takes with its length in front of it.
    fileprivate static func room(for byteCount: Int) -> Int { byteCount + 25 }
}

extension RedisArgument {
    /// At least as many bytes as it takes.
    fileprivate var room: Int {
        switch self {
        case .string(let value): RedisCommand.room(for: value.utf8.count)
        case .bytes(let value): RedisCommand.room(for: value.count)
        case .int: RedisCommand.room(for: 20)
        case .double: RedisCommand.room(for: 32)
        }
    }
}

/// Writes arguments as `$<length>\r\n<bytes>\r\n` into memory that has room for them.
@safe
private struct BulkWriter {
    private let memory: UnsafeMutableBufferPointer<UInt8>
    private(set) var count = 0

    init(_ memory: UnsafeMutableBufferPointer<UInt8>) { unsafe self.memory = memory }

    mutating func write(_ argument: RedisArgument) {
        switch argument {
        case .string(var value): value.withUTF8 { unsafe bulk($0) }
        case .bytes(let value): unsafe value.withUnsafeBufferPointer { unsafe bulk($0) }
        case .int(let value): decimal(value)
        case .double(let value):
            unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 32) { text in
                let length = unsafe withVaList([value]) {
                    unsafe vsnprintf(text.baseAddress, 32, "%.17g", $0)
                }
                unsafe text.prefix(Int(length)).withMemoryRebound(to: UInt8.self) {
                    unsafe bulk(UnsafeBufferPointer($0))
                }
            }
        }
    }

    private mutating func bulk(_ bytes: UnsafeBufferPointer<UInt8>) {
        put(UInt8(ascii: "$"))
        digits(UInt(bytes.count))
        end()
        if let source = bytes.baseAddress {
            unsafe precondition(count + bytes.count <= memory.count)
            unsafe (memory.baseAddress! + count).update(from: source, count: bytes.count)
            count += bytes.count
        }
        end()
    }

    private mutating func decimal(_ value: Int) {
        let magnitude = value.magnitude
        put(UInt8(ascii: "$"))
        digits(UInt(Self.width(magnitude) + (value < 0 ? 1 : 0)))
        end()
        if value < 0 { put(UInt8(ascii: "-")) }
        digits(magnitude)
        end()
    }

    private static func width(_ value: UInt) -> Int {
        var (width, rest) = (1, value / 10)
        while rest > 0 { (width, rest) = (width + 1, rest / 10) }
        return width
    }

    private mutating func digits(_ value: UInt) {
        let width = Self.width(value)
        var rest = value
        for place in stride(from: count + width - 1, through: count, by: -1) {
            unsafe memory[place] = UInt8(ascii: "0") + UInt8(rest % 10)
            rest /= 10
        }
        count += width
    }

    private mutating func end() {
        put(UInt8(ascii: "\r"))
        put(UInt8(ascii: "\n"))
    }

    private mutating func put(_ byte: UInt8) {
        unsafe memory[count] = byte
        count += 1
    }
}
