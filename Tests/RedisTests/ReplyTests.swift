import Testing

@testable import Redis

struct ReplyTests {
    private func read(_ text: String, pieces: Int = .max, limit: Int = 1 << 20) throws -> [RedisValue] {
        let reader = ReplyReader(bytesMax: limit)
        var values: [RedisValue] = []
        var rest = Array(text.utf8)[...]
        while !rest.isEmpty {
            reader.feed(rest.prefix(pieces))
            rest = rest.dropFirst(pieces)
            while let value = try reader.next() { values.append(value) }
        }
        return values
    }

    @Test("Every kind of reply is read, whole or byte by byte", arguments: [1, 3, .max])
    func kinds(pieces: Int) throws {
        let text =
            "+OK\r\n-ERR no\r\n:-7\r\n$3\r\na\0b\r\n$-1\r\n*-1\r\n*0\r\n*3\r\n*1\r\n:1\r\n$0\r\n\r\n*0\r\n"
        #expect(
            try read(text, pieces: pieces) == [
                .status("OK"), .error("ERR no"), .integer(-7), .string([97, 0, 98]), .null, .null, .array([]),
                .array([.array([.integer(1)]), .string([]), .array([])]),
            ])
    }

    @Test("Eight nested arrays are read, nine are refused")
    func depth() throws {
        func nested(_ depth: Int) -> String { String(repeating: "*1\r\n", count: depth) + ":1\r\n" }
        #expect(try read(nested(8)).count == 1)
        #expect(throws: RedisError.self) { try read(nested(9)) }
    }

    @Test("A reply of exactly the limit is read, one byte more is refused")
    func limit() throws {
        #expect(try read("$100\r\n\(String(repeating: "x", count: 100))\r\n", limit: 132).count == 1)
        let error = #expect(throws: RedisError.self) {
            try read("$101\r\n\(String(repeating: "x", count: 101))\r\n", limit: 132)
        }
        #expect(error?.code == .protocolViolation)
    }

    @Test("The limit is one reply's: many small ones pass")
    func limitOfEach() throws {
        #expect(try read(String(repeating: ":1\r\n", count: 100), limit: 64).count == 100)
    }

    @Test("A giant string is refused before it is whole, an array by the elements that came")
    func giants() throws {
        #expect(throws: RedisError.self) {
            try read("$1000000000\r\n" + String(repeating: "x", count: 2_000), pieces: 100, limit: 1_000)
        }
        #expect(try read("*1000000000\r\n:1\r\n", limit: 1_000) == [])
        #expect(throws: RedisError.self) {
            try read("*1000000000\r\n" + String(repeating: ":1\r\n", count: 100), limit: 1_000)
        }
    }

    @Test("Generated garbage is a reply, incomplete or a violation, and never a crash")
    func garbage() {
        var random = SystemRandomNumberGenerator()
        let alphabet = Array("+-:$*0123456789\r\n\r\n ax".utf8) + [0, 255]
        for _ in 0..<4_000 {
            let text = (0..<Int.random(in: 1...40, using: &random)).map { _ in
                alphabet.randomElement(using: &random)!
            }
            do {
                _ = try read(String(decoding: text, as: UTF8.self), pieces: 7, limit: 4_096)
            } catch {
                #expect((error as? RedisError)?.code == .protocolViolation)
            }
        }
    }

    @Test("Accessors read numbers from strings and refuse what is none")
    func accessors() {
        #expect(RedisValue.integer(5).int == 5)
        #expect(RedisValue.string(Array("-12".utf8)).int == -12)
        #expect(RedisValue.string(Array("1.5".utf8)).int == nil)
        #expect(RedisValue.string(Array("1.5".utf8)).double == 1.5)
        #expect(RedisValue.string(Array("-inf".utf8)).double == -.infinity)
        #expect(RedisValue.integer(3).double == 3)
        #expect(RedisValue.status("OK").text == "OK")
        #expect(RedisValue.string([0xff]).text == nil)
        #expect(RedisValue.null.text == nil && RedisValue.null.int == nil && RedisValue.null.array == nil)
        #expect(RedisValue.array([.null]).array == [.null])
    }

    @Test("A command is encoded as the array that the server reads")
    func encoding() {
        var command = RedisCommand("SET", "k", 7, .bytes([1, 13, 10]))
        command.append(.double(0.1))
        command.append(.string("é"))
        var buffer: [UInt8] = []
        command.encode(into: &buffer)
        let text =
            "*6\r\n$3\r\nSET\r\n$1\r\nk\r\n$1\r\n7\r\n$3\r\n\u{1}\r\n\r\n"
            + "$19\r\n0.10000000000000001\r\n$2\r\né\r\n"
        #expect(buffer == Array(text.utf8))
    }

    @Test("Errors say whether to try again and whether the command may have run")
    func errors() {
        let busy = RedisError(reply: "BUSY Redis is busy running a script")
        #expect(busy.serverCode == "BUSY" && busy.isTransient && !busy.mayHaveRun)
        let wrong = RedisError(reply: "WRONGTYPE Operation against a key")
        #expect(wrong.code == .server("WRONGTYPE") && !wrong.isTransient && wrong.mayHaveRun)
        #expect(RedisError(.timeout, "late", mayHaveRun: true).description.contains("may have run"))
        #expect(RedisError(.connection, "lost").serverCode == nil)
    }
}

struct ExchangeTests {
    @Test("A cancellation before the wait begins makes the wait impossible")
    func cancelledFirst() {
        var machine = ExchangeMachine<Int>()
        #expect(machine.cancel() == nil)
        #expect(machine.begin(1) == false)
    }

    @Test("Of answer, failure and cancellation only the first settles")
    func once() {
        var machine = ExchangeMachine<Int>()
        #expect(machine.begin(1) == true)
        #expect(machine.write() == true)
        #expect(machine.cancel()?.isOnTheWire == true)
        #expect(machine.answer(.success(.null), of: 1) == nil)
        #expect(machine.fail(.timeout, "late", of: 1) == nil)
        #expect(machine.cancel() == nil)
    }

    @Test("An exchange that was cancelled while it waited is not written")
    func notWritten() {
        var machine = ExchangeMachine<Int>()
        #expect(machine.begin(1) == true)
        #expect(machine.cancel()?.isOnTheWire == false)
        #expect(machine.write() == false)
    }

    @Test("A failure half-way keeps the answers that came and marks the rest as possibly run")
    func halfWay() throws {
        var machine = ExchangeMachine<Int>()
        #expect(machine.begin(1) == true)
        #expect(machine.write() == true)
        #expect(machine.answer(.success(.integer(1)), of: 3) == nil)
        let settlement = machine.fail(.timeout, "late", of: 3)
        let late = Result<RedisValue, RedisError>.failure(RedisError(.timeout, "late", mayHaveRun: true))
        #expect(try settlement?.result.get() == [.success(.integer(1)), late, late])
    }
}
