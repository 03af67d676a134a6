/// A Merkle tree over a list of leaves (RFC 6962 §2.1): leaf = SHA-256(0x00, bytes), node = SHA-256(0x01,
/// left, right).
///
/// Root and size are signed; a proof then shows that one leaf stands at one place of the list. The root of no
/// leaves is the SHA-256 of nothing.
package struct MerkleTree: Sendable {
    /// Hashes from the leaves (first) up to the root (last); the last node of an odd level goes up as it is.
    private let levels: [[[UInt8]]]

    /// The tree of these leaves, in this order.
    package init(leaves: [[UInt8]]) {
        var levels = [leaves.map(Self.leafHash)]
        while let level = levels.last, level.count > 1 {
            levels.append(
                stride(from: 0, to: level.count, by: 2).map { index in
                    index + 1 < level.count ? Self.nodeHash(level[index], level[index + 1]) : level[index]
                })
        }
        self.levels = levels
    }

    /// The hash that stands for the whole list.
    package var root: [UInt8] { levels.last?.first ?? SHA256.hash([]) }

    /// The number of leaves.
    package var size: Int { levels[0].count }

    /// The audit path of the leaf at `index` (which must be in the list): the sibling of each level, the
    /// leaves' first.
    package func proof(of index: Int) -> [[UInt8]] {
        precondition(index >= 0 && index < size, "no leaf \(index) in a tree of \(size)")
        var position = index
        var path: [[UInt8]] = []
        for level in levels.dropLast() {
            if position ^ 1 < level.count { path.append(level[position ^ 1]) }
            position /= 2
        }
        return path
    }

    /// Whether `proof` shows `leaf` at `index` of the list of `size` leaves with this root (RFC 9162
    /// §2.1.3.2).
    package static func isIncluded(
        leaf: [UInt8], index: Int, size: Int, proof: [[UInt8]], root: [UInt8]
    ) -> Bool {
        guard index >= 0, index < size, proof.count <= Int.bitWidth else { return false }
        var (position, last) = (index, size - 1)
        var hash = leafHash(leaf)
        for sibling in proof {
            guard last > 0, sibling.count == SHA256.byteCount else { return false }
            if position & 1 == 1 || position == last {
                hash = nodeHash(sibling, hash)
                while position & 1 == 0, position != 0 { (position, last) = (position >> 1, last >> 1) }
            } else {
                hash = nodeHash(hash, sibling)
            }
            (position, last) = (position >> 1, last >> 1)
        }
        return last == 0 && hash == root
    }

    private static func leafHash(_ leaf: [UInt8]) -> [UInt8] { SHA256.hash([0] + leaf) }

    private static func nodeHash(_ left: [UInt8], _ right: [UInt8]) -> [UInt8] {
        SHA256.hash([1] + left + right)
    }
}
