package import Domain
import Trust
package import Wire

/// Verifies an export, however long, from the beginning to its end. Nothing of it is believed but what the
/// root key in it vouches for, whose hash has to be compared with that of the installation.
package struct ExportReader {
    /// What is wrong with an archive: one sentence.
    package struct Fault: Error, Equatable, CustomStringConvertible {
        /// The sentence.
        package let description: String

        fileprivate init(_ description: String) { self.description = description }
    }

    /// An archive of which every byte holds.
    package struct Verified: Sendable {
        /// What it holds.
        package let manifest: ExportManifest
        /// The SHA-256 of the root key that vouches for it, in hexadecimal.
        package let rootKeyHash: String
    }

    /// What an archive has beside files of rows, and how large that may be; all of it is kept in memory.
    private static let ownBytesMax = [
        "root.key": VerifyingKey.byteCount, "keyset": Statement.payloadBytesMax,
        "manifest.json": ExportManifest.bytesMax, "manifest.signed": Statement.payloadBytesMax,
    ]
    private static let cut = Fault("the archive has no end: it was cut off")
    private let source: (Int) throws -> [UInt8]

    /// A reader of what `source` gives: at most so many bytes, none at the end.
    package init(source: @escaping (Int) throws -> [UInt8]) { self.source = source }

    /// Reads all of it.
    /// - Throws: `Fault`, or what the source throws.
    package func verify(rootKeyHash: String? = nil, now: Instant = .now()) throws -> Verified {
        var files: [String: (bytes: Int, sha256: String)] = [:]
        var own: [String: [UInt8]] = [:]
        while let (name, bytes) = try header() {
            guard files[name] == nil, own[name] == nil else { throw Fault("\(name) is there twice") }
            if name.contains("/") {
                files[name] = (bytes, try digest(bytes))
            } else {
                guard let most = Self.ownBytesMax[name], bytes <= most else {
                    throw Fault("\(name) is none of its parts, or too large")
                }
                own[name] = try content(bytes)
            }
            guard try content(TarFile.padding(after: bytes).count).allSatisfy({ $0 == 0 }) else {
                throw Fault("something stands behind \(name)")
            }
        }
        guard let root = own["root.key"], let set = own["keyset"], let signed = own["manifest.signed"],
            let shown = own["manifest.json"], own.count == 4
        else { throw Fault("a part of its own is missing, or there is one too many") }
        let hash = Hex.encode(SHA256.hash(root))
        guard rootKeyHash == nil || rootKeyHash == hash else {
            throw Fault("it is signed under another root key, \(hash)")
        }
        let manifest: ExportManifest
        do {
            manifest = try ExportManifest.decode(shown)
            let deployment = manifest.deploymentId.bytes
            let keySet = try SignedStatement(encoded: set).verified(
                as: .keySet, by: [VerifyingKey(bytes: root)], deployment: deployment, now: now.seconds,
                organization: nil)
            let keys = try KeySetPayload.decode(keySet.payload).jobKeys.map {
                try VerifyingKey(bytes: $0.bytes)
            }
            let statement = try SignedStatement(encoded: signed).verified(
                as: .export, by: keys, deployment: deployment, now: now.seconds,
                organization: manifest.organizationId.bytes)
            guard try ExportSeal.decode(statement.payload).manifestSha256 == Hex.encode(SHA256.hash(shown))
            else { throw Fault("manifest.json is not what was signed") }
        } catch let error as TrustError {
            throw Fault("its signature does not hold: \(error)")
        } catch let error as FieldError {
            throw Fault("a part of its own cannot be read: \(error)")
        }
        for file in manifest.files {
            guard let found = files.removeValue(forKey: file.name) else {
                throw Fault("\(file.name) is gone")
            }
            guard found.bytes == file.bytes, found.sha256 == file.sha256 else {
                throw Fault("\(file.name) was changed")
            }
        }
        if let added = files.keys.min() { throw Fault("\(added) was put in") }
        return Verified(manifest: manifest, rootKeyHash: hash)
    }

    private func header() throws -> (name: String, bytes: Int)? {
        let block = try content(TarFile.blockBytes)
        if block.allSatisfy({ $0 == 0 }) {
            guard try content(TarFile.end.count - TarFile.blockBytes).allSatisfy({ $0 == 0 }),
                try source(1).isEmpty
            else { throw Fault("something stands after its end") }
            return nil
        }
        guard let header = TarFile.read(block) else { throw Fault("a header does not hold") }
        return header
    }

    private func content(_ count: Int) throws -> [UInt8] {
        var bytes: [UInt8] = []
        while bytes.count < count {
            let more = try source(count - bytes.count)
            guard !more.isEmpty else { throw Self.cut }
            bytes += more
        }
        return bytes
    }

    private func digest(_ count: Int) throws -> String {
        var hash = SHA256()
        var left = count
        while left > 0 {
            let bytes = try source(min(left, 1 << 20))
            guard !bytes.isEmpty else { throw Self.cut }
            hash.update(bytes)
            left -= bytes.count
        }
        return Hex.encode(hash.finalize())
    }
}
