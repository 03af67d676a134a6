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
        append(.string(name))
        append(contentsOf: arguments)
    }

    /// Adds one argument at the end.
    package mutating func append(_ argument: RedisArgument) {
        switch argument {
        case .string(var value):
            value.withUTF8 { bytes in unsafe appendBulk(bytes, count: bytes.count) }
        case .bytes(let value): appendBulk(value, count: value.count)
        case .int(let value): appendText(String(value))
        case .double(let value): appendText(Self.decimal(value))
        }
    }

    /// Adds arguments at the end.
    package mutating func append(contentsOf arguments: some Sequence<RedisArgument>) {
        for argument in arguments { append(argument) }
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
        buffer.append(contentsOf: String(count).utf8)
        buffer.append(contentsOf: "\r\n".utf8)
        buffer.append(contentsOf: encoded)
    }

    private mutating func appendText(_ text: String) {
        appendBulk(text.utf8, count: text.utf8.count)
    }

    private mutating func appendBulk(_ bytes: some Sequence<UInt8>, count length: Int) {
        encoded.append(UInt8(ascii: "$"))
        encoded.append(contentsOf: String(length).utf8)
        encoded.append(contentsOf: "\r\n".utf8)
        encoded.append(contentsOf: bytes)
        encoded.append(contentsOf: "\r\n".utf8)
        count += 1
    }

    private static func decimal(_ value: Double) -> String {
        unsafe withUnsafeTemporaryAllocation(of: CChar.self, capacity: 32) { buffer in
            let written = unsafe withVaList([value]) { unsafe vsnprintf(buffer.baseAddress, 32, "%.17g", $0) }
            return unsafe String(
                decoding: buffer.prefix(Int(written)).map(UInt8.init(bitPattern:)), as: UTF8.self)
        }
    }
}
