import Domain
import Testing
import Trust
import Wire

@testable import cloudrmm

/// The live view without a terminal.
@Suite("The live view of the queues")
struct TopScreenTests {
    private static let now = Instant(seconds: 1_800_000_000)

    private static func id(_ number: UInt64) -> OrganizationID {
        OrganizationID(UniqueID(high: 0x018F_0000_0000_7000, low: 0x8000_0000_0000_0000 | number))
    }

    private static func queue(_ number: UInt64, depth: Int, priority: Priority = .standard) -> QueueStatus {
        QueueStatus(
            organizationId: id(number), priority: priority, depth: depth, oldestAgeSeconds: Double(number),
            waiting: 1, running: 2, cap: 50, weight: 2.5, share: 0.25, entitlement: 0.5, drainRate: 12.34)
    }

    private static func control(_ scope: QueueScope, _ mode: ControlMode = .pause) -> QueueControl {
        QueueControl(
            id: ControlID(.zero), mode: mode, scope: scope, byPlatform: true, reason: "by \u{1B}[2J",
            createdBy: PrincipalID(.zero), since: now)
    }

    private func screen(
        _ queues: [QueueStatus], names: [OrganizationID: String] = [:], controls: [QueueControl] = []
    ) -> TopScreen {
        var screen = TopScreen()
        screen.answered(
            TopData(queues, names: names, controls: controls, isCut: false), at: Self.now)
        return screen
    }

    private func texts(_ screen: inout TopScreen) -> [String] { screen.lines(at: Self.now).map(\.text) }

    @Test(
        "every size is filled exactly, whatever the names",
        arguments: [(24, 80), (50, 200), (10, 40), (5, 20), (4, 10), (1, 1), (2, 500)])
    func sizes(rows: Int, columns: Int) {
        let names = [
            Self.id(1): String(repeating: "long ", count: 60), Self.id(2): "日本語の会社の名前はとても長い",
            Self.id(3): "e\u{301}e\u{301}👩‍👩‍👧‍👦🇩🇪",
            Self.id(4): "\u{1B}[31mred\u{7}\u{202E}\r\n", Self.id(5): "",
        ]
        var screen = screen((1...60).map { Self.queue($0, depth: Int($0) * 123_456) }, names: names)
        screen.size = (rows, columns)
        for _ in 0..<3 {
            let lines = screen.lines(at: Self.now)
            #expect(lines.count == rows)
            for line in lines {
                #expect(DisplayText.width(of: line.text) == columns, "\(line.text)")
                #expect(
                    line.text.unicodeScalars.allSatisfy {
                        $0.properties.generalCategory != .control && $0.value != 0x202E
                    }, "nothing of a tenant's steers the terminal")
            }
            _ = screen.press(Array("jjjjjjjj".utf8))
        }
    }

    @Test("80 × 24 shows depth, age, running, rates, share and entitlement; 40 × 10 what matters most")
    func columns() {
        var screen = screen([Self.queue(1, depth: 1_234_567)], names: [Self.id(1): "Acme"])
        #expect(
            texts(&screen)[2]
                == "ORGANIZATION    DEPTH OLDEST WAITING   RUN   CAP  END/S WEIGHT SHARE ENTL  STATE")
        #expect(
            texts(&screen)[3]
                == "Acme             1.2M     1s       1     2    50   12.3    2.5   25%  50%       ")
        screen.size = (10, 40)
        #expect(texts(&screen)[2] == "ORGANIZATION   DEPTH OLDEST   RUN  STATE")
        screen.size = (50, 200)
        #expect(texts(&screen)[3].hasSuffix(Self.id(1).description))
    }

    @Test("the queues of an organization are one row, with the oldest of all and each run counted once")
    func together() {
        let data = TopData(
            [
                Self.queue(7, depth: 3, priority: .interactive), Self.queue(7, depth: 4, priority: .bulk),
            ], names: [:], controls: [], isCut: false)
        #expect(data.rows.map(\.depth) == [7] && data.rows[0].waiting == 2 && data.rows[0].running == 4)
        #expect(data.rows[0].share == 0.25, "a share is an organization's")
    }

    @Test("keys sort, select, filter and end")
    func keys() {
        let names = [Self.id(1): "b one", Self.id(2): "a two", Self.id(3): "c three"]
        var screen = screen(
            [Self.queue(1, depth: 5), Self.queue(2, depth: 9), Self.queue(3, depth: 7)], names: names)
        func order(_ screen: inout TopScreen) -> [String] {
            texts(&screen)[3..<6].map { String($0.prefix(1)) }
        }
        #expect(order(&screen) == ["a", "c", "b"], "by depth")
        #expect(screen.press([UInt8(ascii: "s")]) == .none)
        #expect(order(&screen) == ["c", "a", "b"], "by age")
        _ = screen.press([UInt8(ascii: "S"), UInt8(ascii: "S")])
        #expect(order(&screen) == ["a", "b", "c"], "by name")
        #expect(screen.press(Array("/THREE\r".utf8)) == .none)
        #expect(texts(&screen)[3].hasPrefix("c three") && texts(&screen)[4].allSatisfy { $0 == " " })
        #expect(screen.press(Array("/\u{1B}".utf8)) == .none)
        #expect(order(&screen) == ["a", "b", "c"], "no filter")
        for end in [[UInt8(ascii: "q")], [0x03], [0x04]] {
            var screen = screen
            #expect(screen.press(end) == .quit)
        }
        _ = screen.press([UInt8(ascii: "/")])
        #expect(screen.press([UInt8(ascii: "q")]) == .none, "a letter of the filter")
        #expect(screen.press([0x03]) == .quit)
    }

    @Test("the selected organization is paused or resumed only when that was confirmed")
    func holds() {
        var screen = screen(
            [Self.queue(1, depth: 2), Self.queue(2, depth: 1)],
            controls: [Self.control(QueueScope(organization: Self.id(2)))])
        #expect(screen.press(Array("pn".utf8)) == .none)
        #expect(screen.press([UInt8(ascii: "p")]) == .none)
        #expect(texts(&screen)[23].hasPrefix("pause \(Self.id(1))? y/n"))
        #expect(screen.press([UInt8(ascii: "y")]) == .pause(Self.id(1)))
        #expect(screen.press([0x1B, UInt8(ascii: "["), UInt8(ascii: "B")]) == .none)
        #expect(screen.press(Array("py".utf8)) == .resume(Self.id(2)))
    }

    @Test("what is held back says so, and everything that is paused stands above all")
    func states() {
        let one = Self.id(1)
        for (controls, state) in [
            ([Self.control(QueueScope(organization: one))], "paused"),
            ([Self.control(QueueScope(organization: one), .drain)], " drain"),
            ([Self.control(QueueScope(organization: one, kind: .ping))], "partly"),
            ([Self.control(QueueScope(priority: .bulk))], "partly"), ([Self.control(QueueScope())], "paused"),
            ([Self.control(QueueScope(organization: Self.id(2)))], "      "),
        ] {
            var screen = screen([Self.queue(1, depth: 1)], controls: controls)
            #expect(texts(&screen)[3].hasSuffix(state), "\(controls)")
        }
        var screen = screen([], controls: [Self.control(QueueScope())])
        #expect(texts(&screen)[1].hasPrefix("everything is paused since 2027-"))
        #expect(!texts(&screen)[1].contains("\u{1B}"))
    }

    @Test("an API that is away is told with how old the view is, and forgotten when it answers")
    func away() {
        var screen = screen([Self.queue(1, depth: 1)])
        screen.failed("the API is not reached\u{1B}")
        let line = screen.lines(at: Self.now + .seconds(7))[1].text
        #expect(line.hasPrefix("no answer: the API is not reached\u{FFFD}  last answer 7s ago"))
        #expect(texts(&screen)[3].contains(Self.id(1).description.prefix(10)), "the last view stays")
        screen.answered(TopData(), at: Self.now)
        #expect(texts(&screen)[1].allSatisfy { $0 == " " })
        var fresh = TopScreen()
        #expect(texts(&fresh)[1].hasPrefix("asking the API"))
    }
}
