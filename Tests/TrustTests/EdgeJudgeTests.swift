import Domain
import Synchronization
import Testing
import Trust

@Suite struct EdgeJudgeTests {
    private static let ids = (1...5).map { UniqueID.v7(at: Instant(seconds: $0)) }

    /// Edges that differ in one id or in kind alone.
    private static let edges: [ParentEdge] = [
        .partner(ID(ids[0])), .partner(ID(ids[1])), .organization(ID(ids[0]), of: ID(ids[1])),
        .organization(ID(ids[0]), of: ID(ids[2])), .organization(ID(ids[1]), of: ID(ids[0])),
        .site(ID(ids[0]), of: ID(ids[1])), .site(ID(ids[0]), of: ID(ids[2])),
        .device(ID(ids[0]), at: ID(ids[1]), of: ID(ids[2])),
        .device(ID(ids[0]), at: ID(ids[2]), of: ID(ids[1])),
        .device(ID(ids[0]), at: ID(ids[1]), of: ID(ids[3])),
        .device(ID(ids[4]), at: ID(ids[1]), of: ID(ids[2])),
    ]

    private func judge(_ byte: UInt8 = 1, keyID: String = "k") throws -> EdgeJudge {
        EdgeJudge(key: try MACKey(bytes: Array(repeating: byte, count: 32)), keyID: keyID) { _ in }
    }

    private func refusal(_ judge: EdgeJudge, _ edges: [SealedEdge], upTo level: Level) -> EdgeRefusal? {
        do throws(EdgeRefusal) {
            try judge.require(edges, upTo: level)
            return nil
        } catch {
            return error
        }
    }

    @Test("a MAC holds for its own edge and for no other")
    func onlyItsOwn() throws {
        let judge = try judge()
        for (index, edge) in Self.edges.enumerated() {
            for (other, candidate) in Self.edges.enumerated() {
                let refused = refusal(
                    judge, [SealedEdge(candidate, judge.mac(of: edge))], upTo: candidate.parent)
                #expect(refused == (index == other ? nil : .altered(candidate)), "\(edge) for \(candidate)")
            }
        }
    }

    @Test("another key, another name of the key, no code and a changed code do not hold")
    func otherKeys() throws {
        let (judge, edge) = (try judge(), Self.edges[3])
        let good = judge.mac(of: edge)
        var flipped = good.code
        flipped[31] ^= 1
        let bad = [
            try self.judge(2).mac(of: edge), try self.judge(keyID: "l").mac(of: edge),
            RowMAC(keyID: "l", code: good.code), RowMAC(keyID: "k", code: flipped),
            RowMAC(keyID: "k", code: []), RowMAC(keyID: "k", code: Array(good.code.dropLast())),
        ]
        for mac in bad {
            let refused = refusal(judge, [SealedEdge(edge, mac)], upTo: edge.parent)
            #expect(refused == .altered(edge), "\(mac)")
        }
        #expect(refusal(judge, [SealedEdge(edge, good)], upTo: edge.parent) == nil)
        #expect(refusal(judge, [], upTo: .platform) == .missing)
    }

    /// A device with all that is above it, and another tenancy's.
    private static func chain(_ ids: [UniqueID]) -> [ParentEdge] {
        [
            .device(ID(ids[0]), at: ID(ids[1]), of: ID(ids[2])), .site(ID(ids[1]), of: ID(ids[2])),
            .organization(ID(ids[2]), of: ID(ids[3])), .partner(ID(ids[3])),
        ]
    }
    private static let own = chain(ids)
    private static let other = chain((6...10).map { UniqueID.v7(at: Instant(seconds: $0)) })

    @Test("edges that hold grant a row to each level above it and to itself, and to no other level")
    func reach() throws {
        let judge = try judge()
        func sealed(_ edges: some Sequence<ParentEdge>) -> [SealedEdge] {
            edges.map { SealedEdge($0, judge.mac(of: $0)) }
        }
        for (start, row) in Self.own.enumerated() {
            let above = Self.own[start...]
            let levels = above.compactMap(\.level) + [.platform]
            for level in levels { #expect(refusal(judge, sealed(above), upTo: level) == nil, "\(level)") }
            let below = Self.own[..<start].compactMap(\.level)
            for level in below + Self.other.compactMap(\.level) {
                #expect(refusal(judge, sealed(above), upTo: level) == .outside(row), "\(row), \(level)")
            }
            // What is above the level is not shown to it.
            for end in start..<Self.own.count {
                let shown = sealed(Self.own[start...end])
                #expect(refusal(judge, shown, upTo: Self.own[end].parent) == nil)
                if end + 1 < Self.own.count {
                    #expect(refusal(judge, shown, upTo: Self.own[end + 1].parent) == .outside(row))
                }
            }
        }
    }

    @Test("edges of two tenancies are no chain, even if all of them hold")
    func unlinked() throws {
        let judge = try judge()
        for cut in 1..<Self.own.count {
            let edges = Self.other[..<cut] + Self.own[cut...]
            let sealed = edges.map { SealedEdge($0, judge.mac(of: $0)) }
            for level in Self.own.compactMap(\.level) + [.platform] {
                #expect(refusal(judge, sealed, upTo: level) == .outside(Self.other[0]), "\(cut) \(level)")
            }
        }
    }

    @Test("of several edges the first that does not hold is named, and told to whoever listens")
    func told() throws {
        let told = Mutex<[EdgeRefusal]>([])
        let key = try MACKey(bytes: Array(repeating: 1, count: 32))
        let judge = EdgeJudge(key: key, keyID: "k") { refusal in told.withLock { $0.append(refusal) } }
        let sealed = Self.own.map { SealedEdge($0, judge.mac(of: $0)) }
        let forged = Self.own.map { SealedEdge($0, RowMAC(keyID: "k", code: [])) }
        #expect(refusal(judge, sealed, upTo: .platform) == nil && told.withLock { $0.isEmpty })
        #expect(refusal(judge, [], upTo: .platform) == .missing && told.withLock { $0.isEmpty })
        let altered = EdgeRefusal.altered(Self.own[1])
        // Also above the level.
        for level in [Level.platform, .site(ID(Self.ids[1]))] {
            #expect(refusal(judge, [sealed[0]] + forged[1...], upTo: level) == altered)
        }
        // Who may not see a row is not told that it was altered.
        let outside = EdgeRefusal.outside(Self.own[0])
        #expect(refusal(judge, forged, upTo: .platform) == .altered(Self.own[0]))
        #expect(refusal(judge, forged, upTo: .partner(ID(Self.ids[4]))) == outside)
        #expect(told.withLock { $0 } == [altered, altered, .altered(Self.own[0]), outside])
        #expect(Self.own[2].refusal.contains("organization \(Self.ids[2])"))
    }
}
