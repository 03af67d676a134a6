package import Domain

/// Why the edges of a row grant nothing to a level.
package enum EdgeRefusal: Error, Hashable {
    /// There are none: the database shows no such row.
    case missing
    /// They do not lead from this row to the level, so for the level there is no such row. The database
    /// should not have shown it: row-level security does not hold.
    case outside(ParentEdge)
    /// The MAC of this row does not hold.
    case altered(ParentEdge)
    /// This row is archived, or a level above it.
    case archived(ParentEdge)
}

/// Makes the MACs of parent edges and judges them.
///
/// The API role asks it before it signs or seals anything on the word of such a row: who writes the database,
/// or switches its policies off, can hide a tenant, not bring it under another's power. Whoever runs it hears
/// of each row that is refused, save of those that are not there or archived.
package struct EdgeJudge: Sendable {
    private let key: MACKey
    private let keyID: String
    private let onRefusal: @Sendable (EdgeRefusal) -> Void

    /// A judge with one MAC key, which rows name by its id.
    package init(key: MACKey, keyID: String, onRefusal: @escaping @Sendable (EdgeRefusal) -> Void) {
        self.key = key
        self.keyID = keyID
        self.onRefusal = onRefusal
    }

    /// The MAC for the row of an edge.
    package func mac(of edge: ParentEdge) -> RowMAC {
        RowMAC(keyID: keyID, code: key.mac(edge.parts(keyID: keyID)))
    }

    /// Refuses a row unless its edges, from its own upwards, lead to the level and all their MACs hold.
    ///
    /// The row of the level itself need not be among them, since its name in the edge below is under that
    /// edge's MAC: an organization's scope does not see its partner. Edges above the level are judged where
    /// the scope shows them. Whether the level is reached is judged first, so that who may not see a row is
    /// not told that it was altered. An archived row is refused too, unless that does not matter to who asks.
    package func require(
        _ edges: [SealedEdge], upTo level: Level, evenArchived: Bool = false
    ) throws(EdgeRefusal) {
        guard let first = edges.first else { throw .missing }
        let refusal: EdgeRefusal
        if !Self.leads(edges.map(\.edge), to: level) {
            refusal = .outside(first.edge)
        } else if let altered = edges.first(where: { !holds($0) }) {
            refusal = .altered(altered.edge)
        } else if !evenArchived, let archived = edges.first(where: \.isArchived) {
            throw .archived(archived.edge)
        } else {
            return
        }
        onRefusal(refusal)
        throw refusal
    }

    /// Whether each edge belongs to the row of the next, and one of them is the level's own or belongs to it.
    private static func leads(_ edges: [ParentEdge], to level: Level) -> Bool {
        zip(edges, edges.dropFirst()).allSatisfy { $0.parent == $1.level }
            && edges.contains { edge in
                edge.level.map(level.includes) == true || level.includes(edge.parent)
            }
    }

    private func holds(_ sealed: SealedEdge) -> Bool {
        sealed.mac.keyID == keyID && key.isValid(sealed.mac.code, for: sealed.edge.parts(keyID: keyID))
    }
}
