import Domain
import Trust
import Wire

func checkFrame(_ bytes: [UInt8]) {
    if let frame = accepted({ try AgentFrame.decode(bytes) }) {
        let again = accepted { try AgentFrame.decode(frame.encoded) }
        promise(again?.encoded == frame.encoded, "a message of an agent is written otherwise")
    }
    if let frame = accepted({ try GatewayFrame.decode(bytes) }) {
        promise(
            accepted { try GatewayFrame.decode(frame.encoded) }?.encoded == frame.encoded,
            "a message of a gateway is written otherwise")
    }
}

private let payloadTypes: [any WireObject.Type] = [
    JobPayload.self, TokenPayload.self, KeySetPayload.self, AssignmentPayload.self, ExportManifest.self,
]

private let key = accepted { try SigningKey(seed: [UInt8](repeating: 7, count: SigningKey.seedByteCount)) }

func checkStatement(_ bytes: [UInt8]) {
    if let statement = accepted({ try SignedStatement(encoded: bytes) }) {
        promise(statement.encoded == bytes, "a statement has two encodings")
    }
    checkSigned(bytes)
    if let value = accepted({ try JSONValue(scanning: bytes) }) {
        for type in payloadTypes { checkObject(type, value) }
    }
    if let (name, length) = TarFile.read(bytes) {
        promise(name.utf8.count <= 3 * 100 && (0...TarFile.bytesMax).contains(length), "a file is too long")
        promise((length + TarFile.padding(after: length).count) % TarFile.blockBytes == 0, "a block is cut")
    }
    checkTree(of: bytes)
}

/// The bytes as what stands behind a valid prefix, key id and before a valid signature: what a thief of the
/// key could send.
private func checkSigned(_ bytes: [UInt8]) {
    guard let key else { return }
    let start = Array("cloudrmm.job.v1".utf8) + [0] + SHA256.hash(key.publicKey.bytes).prefix(8)
    let signed = SignedStatement(bytes: start + bytes, signature: key.sign(start + bytes))
    let deployment = Array(bytes.prefix(16))
    let statement = accepted {
        try signed.verified(
            as: .job, by: [key.publicKey], deployment: deployment, now: 1_700_000_000, organization: nil)
    }
    guard let statement else { return }
    promise(SignedStatement.sign(statement, with: key) == signed, "a statement is signed otherwise")
    if let payload = accepted({ try JobPayload.decode(statement.payload) }) { _ = payload.json }
}

/// The bytes as a root, a leaf's index and a proof.
private func checkTree(of bytes: [UInt8]) {
    guard bytes.count >= 34 else { return }
    let root = Array(bytes.prefix(32))
    let (index, count) = (Int(bytes[32]), Int(bytes[33]))
    let proof = stride(from: 34, to: bytes.count, by: 32).map { Array(bytes[$0..<min($0 + 32, bytes.count)]) }
    _ = MerkleTree.isIncluded(leaf: [1, 2, 3], index: index, size: count, proof: proof, root: root)
}
