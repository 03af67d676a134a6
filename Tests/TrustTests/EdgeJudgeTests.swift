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

    @Test("a MAC holds for its own edge and for no other")
    func onlyItsOwn() throws {
        let judge = try judge()
        for (index, edge) in Self.edges.enumerated() {
            for (other, candidate) in Self.edges.enumerated() {
                let altered = judge.firstAltered(of: [SealedEdge(candidate, judge.mac(of: edge))])
                #expect(altered == (index == other ? nil : candidate), "\(edge) for \(candidate)")
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
        for mac in bad { #expect(judge.firstAltered(of: [SealedEdge(edge, mac)]) == edge, "\(mac)") }
        #expect(judge.firstAltered(of: [SealedEdge(edge, good)]) == nil)
        #expect(judge.firstAltered(of: []) == nil)
    }

    @Test("of several edges the first that does not hold is named, and told to whoever listens")
    func told() throws {
        let told = Mutex<[ParentEdge]>([])
        let key = try MACKey(bytes: Array(repeating: 1, count: 32))
        let judge = EdgeJudge(key: key, keyID: "k") { edge in told.withLock { $0.append(edge) } }
        let sealed = Self.edges.map { SealedEdge($0, judge.mac(of: $0)) }
        let forged = Self.edges.map { SealedEdge($0, RowMAC(keyID: "k", code: [])) }
        #expect(judge.firstAltered(of: sealed) == nil && told.withLock { $0.isEmpty })
        #expect(judge.firstAltered(of: [sealed[0], forged[2], forged[5]]) == Self.edges[2])
        #expect(told.withLock { $0 } == [Self.edges[2]])
        #expect(Self.edges[2].refusal.contains("organization \(Self.ids[0])"))
    }
}
