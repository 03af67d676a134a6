import Process
import Testing
import Trust

@testable import Agent

@Suite("Redactor") struct RedactorTests {
    private func redacted(_ output: String, _ secrets: [String], cut: Int? = nil) -> String {
        var redactor = Redactor(secrets.map { SecretBytes(Array($0.utf8)) })
        var (rest, shown) = (Array(output.utf8)[...], [UInt8]())
        while !rest.isEmpty {
            let piece = rest.prefix(cut ?? rest.count)
            shown += redactor.redact(.stdout, piece)
            rest = rest.dropFirst(piece.count)
        }
        shown += redactor.redact(.stdout, nil)
        #expect(shown.count == output.utf8.count)
        return String(decoding: shown, as: UTF8.self)
    }

    private static let stars = String(repeating: "*", count: 12)

    @Test(
        "a secret is masked wherever it stands and pieces are cut, and nothing else is",
        arguments: [
            ("", ""), ("password1234", stars), ("a password1234 b", "a \(stars) b"),
            ("password1234password1234", stars + stars),
            // An output that ends in most of a secret was perhaps cut off in it.
            ("password123", String(repeating: "*", count: 11)), ("a passwor", "a passwor"),
            ("passwordpassword1234", "password" + stars), ("PASSWORD1234", "PASSWORD1234"),
            ("a password1234", "a \(stars)"), ("\0\0password1234\n", "\0\0\(stars)\n"),
        ])
    func everyCut(_ output: String, _ expected: String) {
        for cut in 1...max(1, output.utf8.count) {
            #expect(redacted(output, ["password1234"], cut: cut) == expected, "in pieces of \(cut)")
        }
    }

    @Test("secrets that overlap, contain each other or begin alike are all masked, at every cut")
    func overlaps() {
        let secrets = ["abcdefgh1", "efgh1abcdefgh1XYZ", "abcdefgh", "abcdefghZZZZ"]
        for (output, expected) in [
            ("abcdefgh1abcdefgh1XYZ.", String(repeating: "*", count: 21) + "."),
            ("abcdefgh2", "********2"), ("abcdefghZZZ.", "********ZZZ."),
            ("abcdefghZZZZ.", String(repeating: "*", count: 12) + "."),
            ("efgh1abcdefgh1XY.", "efgh1" + String(repeating: "*", count: 9) + "XY."),
        ] {
            for cut in 1...output.utf8.count {
                #expect(redacted(output, secrets, cut: cut) == expected, "\(output) in pieces of \(cut)")
            }
        }
    }

    @Test("each line of a secret of several lines is masked if it is long enough")
    func lines() {
        let secret = "first line\r\nshort\nthe last line\n"
        #expect(redacted("first line", [secret]) == "**********")
        #expect(redacted("short", [secret]) == "short")
        #expect(redacted("x\nthe last line\n", [secret]) == "x\n*************\n")
        #expect(redacted("a\(secret)b", [secret]) == "a\(String(repeating: "*", count: 32))b")
    }

    @Test("the two outputs do not lend each other beginnings")
    func streams() {
        var redactor = Redactor([SecretBytes(Array("password1234".utf8))])
        #expect(redactor.redact(.stdout, Array("password".utf8)[...]).isEmpty)
        #expect(redactor.redact(.stderr, Array("1234".utf8)[...]).elementsEqual("1234".utf8))
        #expect(redactor.redact(.stdout, Array("!".utf8)[...]).elementsEqual("password!".utf8))
    }

    @Test("what is random is left as it is, whatever the pieces, and found in it what was put there")
    func random() {
        var generator = SystemRandomNumberGenerator()
        for _ in 0..<50 {
            let secret = (0..<Int.random(in: 8...40)).map { _ in UInt8.random(in: 0...3) }
            var redactor = Redactor([SecretBytes(secret)])
            let raw = (0..<4_000).map { _ in UInt8.random(in: 0...3) }
            var output = raw
            let place = Int.random(in: 0..<3_900)
            output.replaceSubrange(place..<place + secret.count, with: secret)
            var (rest, shown) = (output[...], [UInt8]())
            while !rest.isEmpty {
                let piece = rest.prefix(Int.random(in: 1...200, using: &generator))
                shown += redactor.redact(.stdout, piece)
                rest = rest.dropFirst(piece.count)
            }
            shown += redactor.redact(.stdout, nil)
            var expected = output
            for start in 0...(output.count - 8) {
                let end = min(output.count, start + secret.count)
                guard output[start..<end].elementsEqual(secret.prefix(end - start)) else { continue }
                for index in start..<end { expected[index] = UInt8(ascii: "*") }
            }
            #expect(shown == expected && shown[place] == UInt8(ascii: "*"))
        }
    }
}
