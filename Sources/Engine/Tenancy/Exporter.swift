package import Domain
package import Ledger
package import Postgres
import Trust
import Wire

/// Exports organizations by the installation's keys.
package struct Exporter: Sendable {
    fileprivate let ledger: Ledger
    fileprivate let signer: Signer

    /// An exporter of what the ledger shows.
    package init(ledger: Ledger, signer: Signer) { (self.ledger, self.signer) = (ledger, signer) }

    /// Begins an export of what an organization is now.
    package func export(_ organization: OrganizationID, _ erasable: Erasable, scope: Scope) -> Export {
        Export(self, organization, erasable, scope: scope)
    }
}

/// An export as it is written: an organization's rows, and a manifest of them that the installation signs, as
/// ``ExportManifest`` tells.
package struct Export: Sendable {
    private enum Step {
        case rows(kind: Int, after: ExportMark?, number: Int)
        case own
        case end
        case done
    }

    /// How many rows a file has at the most: of what may be large, few.
    private static func rows(of kind: ExportedKind) -> Int {
        kind == .jobs || kind == .runOutput ? 50 : 1_000
    }

    private let exporter: Exporter
    private let organization: OrganizationID
    private let scope: Scope
    private let now: Instant
    private var manifest: ExportManifest
    private var step = Step.rows(kind: 0, after: nil, number: 1)

    fileprivate init(
        _ exporter: Exporter, _ organization: OrganizationID, _ erasable: Erasable, scope: Scope
    ) {
        self.exporter = exporter
        self.organization = organization
        self.scope = scope
        now = .now()
        manifest = ExportManifest(
            deployment: exporter.signer.deployment, organization: organization, name: erasable.name,
            version: erasable.version, exportedAt: now)
    }

    /// The next piece of the archive; `nil` after the last. With the last it is noted that all of the
    /// organization was exported.
    /// - Throws: `conflict` if the organization was edited meanwhile: then nothing is noted, and the archive
    ///   has no end.
    package mutating func next() async throws -> [UInt8]? {
        while case .rows(let kind, let mark, let number) = step {
            let kinds = ExportedKind.allCases
            guard kind < kinds.count else {
                step = .own
                break
            }
            let page = try await exporter.ledger.export(
                kinds[kind], of: organization, after: mark, limit: Self.rows(of: kinds[kind]), scope: scope)
            let isEmpty = page.lines.isEmpty
            step =
                page.next.map { .rows(kind: kind, after: $0, number: isEmpty ? number : number + 1) }
                ?? .rows(kind: kind + 1, after: nil, number: 1)
            if !isEmpty { return file(kinds[kind], number, page.lines) }
        }
        switch step {
        case .own:
            step = .end
            return try own()
        case .end:
            // The rest is with whoever asked by now, but for what says that it is complete.
            guard
                try await exporter.ledger.noteExport(
                    of: organization, version: manifest.version, scope: scope)
            else {
                throw EngineError(
                    .conflict, "the organization was edited while it was exported: export it again")
            }
            step = .done
            return TarFile.end
        case .rows, .done: return nil
        }
    }

    private mutating func file(_ kind: ExportedKind, _ number: Int, _ lines: [String]) -> [UInt8] {
        var content: [UInt8] = []
        for line in lines {
            content += Array(line.utf8)
            content.append(UInt8(ascii: "\n"))
        }
        let digits = String(number)
        let zeros = String(repeating: "0", count: max(0, 6 - digits.utf8.count))
        let file = ExportManifest.File(
            name: "\(kind.rawValue)/\(zeros)\(digits).jsonl", rows: lines.count, bytes: content.count,
            sha256: Hex.encode(SHA256.hash(content)))
        manifest.files.append(file)
        return packed(file.name, content)
    }

    private func own() throws -> [UInt8] {
        let (signer, shown) = (exporter.signer, manifest.json)
        guard shown.count <= ExportManifest.bytesMax else {
            throw EngineError(
                .invalid,
                "the export has \(manifest.files.count) files, which are more than its manifest may name")
        }
        let seal = ExportSeal(manifestSha256: Hex.encode(SHA256.hash(shown)))
        let signed = signer.sign(seal, organization: organization, now: now)
        return packed("root.key", signer.rootKey.bytes) + packed("keyset", signer.keySet.encoded)
            + packed("manifest.json", shown) + packed("manifest.signed", signed.encoded)
    }

    private func packed(_ name: String, _ content: [UInt8]) -> [UInt8] {
        TarFile.header(name: name, bytes: content.count, modified: now.seconds) + content
            + TarFile.padding(after: content.count)
    }
}
