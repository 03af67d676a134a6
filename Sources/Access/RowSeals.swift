package import Domain
package import Trust

/// Makes and judges the MACs of rows that grant power, with a key that is not in PostgreSQL.
package struct RowSeals: Sendable {
    private let key: MACKey
    /// Which key it is: rows name it.
    package let keyID: String

    /// Seals with one key.
    package init(key: MACKey, keyID: String) {
        self.key = key
        self.keyID = keyID
    }

    /// The MAC over what a row says; `parts` is told the key's id, which is among them.
    package func seal(_ parts: (String) -> [[UInt8]]) -> RowMAC {
        RowMAC(keyID: keyID, code: key.mac(parts(keyID)))
    }

    /// Whether a row's MAC holds.
    package func holds(_ mac: RowMAC, _ parts: (String) -> [[UInt8]]) -> Bool {
        mac.keyID == keyID && key.isValid(mac.code, for: parts(keyID))
    }
}
