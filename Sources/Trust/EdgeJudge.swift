package import Domain

/// Makes the MACs of parent edges and judges them.
///
/// The API role asks it before it signs or seals anything on the word of such a row: who writes the database
/// can hide a tenant, not bring it under another's power. Whoever runs it hears of each edge that does not
/// hold.
package struct EdgeJudge: Sendable {
    private let key: MACKey
    private let keyID: String
    private let onAltered: @Sendable (ParentEdge) -> Void

    /// A judge with one MAC key, which rows name by its id.
    package init(key: MACKey, keyID: String, onAltered: @escaping @Sendable (ParentEdge) -> Void) {
        self.key = key
        self.keyID = keyID
        self.onAltered = onAltered
    }

    /// The MAC for the row of an edge.
    package func mac(of edge: ParentEdge) -> RowMAC {
        RowMAC(keyID: keyID, code: key.mac(edge.parts(keyID: keyID)))
    }

    /// The first of the edges whose MAC does not hold; `nil` if all do.
    package func firstAltered(of edges: [SealedEdge]) -> ParentEdge? {
        let altered = edges.first { sealed in
            sealed.mac.keyID != keyID
                || !key.isValid(sealed.mac.code, for: sealed.edge.parts(keyID: keyID))
        }
        if let altered { onAltered(altered.edge) }
        return altered?.edge
    }
}
