import Testing
import Wire

@Suite struct JSONTests {
    private func refusal(_ text: String, depthMax: Int = 32, valuesMax: Int = 1_000) -> String {
        refusal(Array(text.utf8), depthMax: depthMax, valuesMax: valuesMax)
    }

    private func refusal(_ bytes: [UInt8], depthMax: Int = 32, valuesMax: Int = 1_000) -> String {
        do {
            return "accepted \(try JSON.parse(bytes, depthMax: depthMax, valuesMax: valuesMax))"
        } catch { return "\(error)" }
    }

    @Test(
        "what is no JSON is refused with its place",
        arguments: [
            ("", "a value is missing at byte 0"), (" ", "a value is missing at byte 1"),
            ("nul", "a value is not JSON at byte 0"), ("[tru]", "a value is not JSON at byte 1"),
            ("+1", "a value is not JSON at byte 0"), ("-", "a value is not JSON at byte 1"),
            ("01", "a number begins with zero at byte 2"), ("1.", "a number ends at its point at byte 2"),
            ("1e+", "a number ends at its exponent at byte 3"),
            ("1e400", "a number is out of range at byte 5"),
            ("1 2", "something follows the value at byte 2"), ("[1", "an array is not closed at byte 2"),
            ("[1,]", "a value is not JSON at byte 3"), ("{\"a\":1", "an object is not closed at byte 6"),
            ("{\"a\" 1}", "a colon is missing at byte 5"), ("{1:1}", "a member's name is missing at byte 1"),
            ("{\"a\":1,}", "a member's name is missing at byte 7"),
            ("{\"a\":1,\"a\":2}", "a member stands twice at byte 10"),
            ("{\"a\":1,\"\\u0061\":2}", "a member stands twice at byte 15"),
            ("\"a", "a string is not closed at byte 2"), ("\"a\\", "a string is not closed at byte 3"),
            ("\"\\u00", "a string is not closed at byte 3"), ("\"\\x\"", "an escape is not known at byte 3"),
            ("\"\\u00g0\"", "an escape is not hexadecimal at byte 3"),
            ("\"\\ud800\"", "a surrogate stands alone at byte 7"),
            ("\"\\udc00\"", "a surrogate stands alone at byte 7"),
            ("\"\\ud800\\u0041\"", "a surrogate stands alone at byte 13"),
            ("\"\n\"", "a control character stands in a string at byte 1"),
        ])
    func refused(text: String, message: String) { #expect(refusal(text) == message) }

    @Test("values nest as deep as the limit, and no deeper")
    func depth() {
        #expect(refusal("[[[1]]]", depthMax: 3).hasPrefix("accepted"))
        #expect(refusal("[[[[1]]]]", depthMax: 3) == "values nest deeper than 3 at byte 4")
        #expect(refusal("{\"a\":{\"a\":{\"a\":1}}}", depthMax: 3).hasPrefix("accepted"))
        #expect(refusal("{\"a\":{\"a\":{\"a\":[1]}}}", depthMax: 3) == "values nest deeper than 3 at byte 16")
    }

    @Test("a text has as many values and names as the limit, and no more")
    func count() throws {
        #expect(refusal("[0,{\"a\":0}]", valuesMax: 5).hasPrefix("accepted"))
        #expect(refusal("[0,{\"a\":0}]", valuesMax: 4) == "there are more than 4 values and names at byte 9")
        #expect(refusal("{\"a\":0}", valuesMax: 1) == "there are more than 1 values and names at byte 4")

        func message(zeros: Int) -> [UInt8] {
            let values = [String](repeating: "0", count: zeros).joined(separator: ",")
            return Array("{\"type\":\"ping\",\"seq\":[\(values)]}".utf8)
        }
        // The object, two names, the type and the array are five.
        let most = Limits.frameValuesMax - 5
        #expect(throws: FieldError(.wrongType, field: "seq", "must be an integer, not an array")) {
            try AgentFrame.decode(message(zeros: most))
        }
        #expect(throws: JSONSyntaxError.self) { try AgentFrame.decode(message(zeros: most + 1)) }
        #expect(throws: JSONSyntaxError.self) { try GatewayFrame.decode(message(zeros: most + 1)) }
    }

    @Test("numbers are integers as far as 64 bits go")
    func numbers() throws {
        for (text, value) in [
            ("0", JSON.integer(0)), ("-0", .integer(0)), ("-7", .integer(-7)),
            ("9223372036854775807", .integer(.max)),
            ("9223372036854775808", .number(9_223_372_036_854_775_808)),
            ("-9223372036854775808", .integer(.min)),
            ("-9223372036854775809", .number(-9_223_372_036_854_775_808)), ("1.0", .number(1)),
            ("1e2", .number(100)), ("-2.5E-1", .number(-0.25)),
        ] {
            #expect(try JSON.parse(Array(text.utf8)) == value)
        }
        let digits = String(repeating: "1", count: 64)
        #expect(refusal(digits).hasPrefix("accepted"))
        #expect(refusal(digits + "1") == "a number has more than 64 characters at byte 65")
        for integer in [Int64.min, -10, -9, -1, 0, 1, 9, 10, 99, 100, 12_345, .max] {
            #expect(String(decoding: integer.json, as: UTF8.self) == "\(integer)")
        }
    }

    @Test("strings of every length keep what stands at every place", arguments: 0...40)
    func strings(length: Int) throws {
        let specials = ["\"", "\\", "\n", "\u{0}", "\u{1F}", "\u{7F}", "é", "€", "😀", "/", "x"]
        for special in specials {
            for place in 0...length {
                let text =
                    String(repeating: "a", count: place) + special
                    + String(repeating: "b", count: length - place)
                #expect(try JSON.parse(text.json) == .string(text))
                #expect(try JSONValue(scanning: text.json).json == text.json)
                let twice = [text, "c" + text].json
                #expect(try JSON.parse(twice) == .array([.string(text), .string("c" + text)]))
            }
        }
        for byte: UInt8 in [0x00, 0x09, 0x1F] {
            for place in 0...length {
                var bytes = [UInt8](repeating: 0x61, count: length + 3)
                (bytes[0], bytes[length + 2], bytes[place + 1]) = (0x22, 0x22, byte)
                #expect(
                    refusal(bytes) == "a control character stands in a string at byte \(place + 1)")
            }
        }
        for byte: UInt8 in [0x80, 0xC3, 0xFF] {
            for place in 0...length {
                var bytes = [UInt8](repeating: 0x61, count: length + 3)
                (bytes[0], bytes[length + 2], bytes[place + 1]) = (0x22, 0x22, byte)
                #expect(refusal(bytes) == "a string is not UTF-8 at byte \(length + 3)")
            }
        }
    }

    @Test("escapes stand for their characters")
    func escapes() throws {
        let text = #""\"\\\/\b\f\n\r\t\u0041\u00e9\u20AC\ud83d\ude00""#
        #expect(try JSON.parse(Array(text.utf8)) == .string("\"\\/\u{8}\u{C}\n\r\tAé€😀"))
        #expect(try JSONValue(scanning: Array(text.utf8)).string == "\"\\/\u{8}\u{C}\n\r\tAé€😀")
        #expect("\u{1}\u{1F}\"\\\n\r\t/é".json == Array("\"\\u0001\\u001f\\\"\\\\\\n\\r\\t/é\"".utf8))
    }

    @Test("a member that stands twice is found among few and many, in whatever form it is written")
    func duplicates() {
        func object(_ names: [String]) -> String {
            "{" + names.map { "\"\($0)\":0" }.joined(separator: ",") + "}"
        }
        for count in [1, 2, 15, 16, 17, 18, 40] {
            let names = (0..<count).map { "name\($0)" }
            #expect(refusal(object(names)).hasPrefix("accepted"))
            for name in [names[0], names[count / 2], names[count - 1]] {
                #expect(refusal(object(names + [name])).hasPrefix("a member stands twice"))
                let escaped = "\\u006e" + name.dropFirst()
                #expect(refusal(object(names + [escaped])).hasPrefix("a member stands twice"))
                #expect(refusal(object([escaped] + names)).hasPrefix("a member stands twice"))
            }
        }
        // Equal as text, though the bytes differ.
        #expect(refusal(object(["\u{E9}", "e\u{301}"])).hasPrefix("a member stands twice"))
        #expect(refusal(object(["K", "\u{212A}"])).hasPrefix("a member stands twice"))
        #expect(refusal(object(["", "a"])).hasPrefix("accepted"))
        #expect(refusal(object(["", "a", ""])).hasPrefix("a member stands twice"))
    }

    @Test("a scanned value is written compactly and equals its tree")
    func values() throws {
        let text =
            #" { "a" : [ 1 , -2.50 , true , false , null , "\u0041\n" , { } , [ ] ] , "\u0062é" : "é" } "#
        let value = try JSONValue(scanning: Array(text.utf8))
        let compact = #"{"a":[1,-2.5,true,false,null,"A\n",{},[]],"bé":"é"}"#
        #expect(String(decoding: value.json, as: UTF8.self) == compact)
        #expect(try value == JSONValue(scanning: Array(compact.utf8)))
        #expect(try value == JSONValue(JSON(value)))
        #expect(try value != JSONValue(scanning: Array("{}".utf8)))
    }

    @Test("generated garbage is parsed or refused, and what is parsed is written and parsed as the same")
    func garbage() throws {
        var generator = SystemRandomNumberGenerator()
        let pieces = [
            "{", "}", "[", "]", ",", ":", "\"", "\\", "\"a\"", "\"b\":", "\\u00e9", "\\ud83d\\ude00", "1",
            "-0",
            "1.5", "e9", "true", "null", " ", "\n", "é", "9223372036854775808",
        ]
        for _ in 0..<20_000 {
            var bytes: [UInt8] = []
            for _ in 0..<Int.random(in: 0...12, using: &generator) {
                bytes += pieces.randomElement(using: &generator)!.utf8
            }
            if Bool.random(), !bytes.isEmpty {
                bytes[Int.random(in: 0..<bytes.count, using: &generator)] = .random(in: 0...255)
            }
            // Most of it is refused, as it should be.
            guard let value = try? JSONValue(scanning: bytes) else { continue }
            #expect(try JSONValue(scanning: value.json) == value)
            #expect(JSON(value).json == value.json)
        }
    }
}
