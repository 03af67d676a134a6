import Engine
import Foundation
import Wire

/// An export in a file.
struct ExportFile {
    let path: String

    /// Verifies all of it and says what it holds.
    func verify(rootKeyHash: String?) throws {
        guard let handle = FileHandle(forReadingAtPath: path) else {
            throw Failure(.usage, "\(path) cannot be read")
        }
        let verified: ExportReader.Verified
        do {
            verified = try ExportReader { [UInt8](try handle.read(upToCount: $0) ?? Data()) }
                .verify(rootKeyHash: rootKeyHash)
        } catch let fault as ExportReader.Fault {
            throw Failure(.failedRuns, "\(path): \(Terminal.harmless(fault.description))")
        }
        let manifest = verified.manifest
        let rows = manifest.files.reduce(0) { $0 + $1.rows }
        Terminal.print(
            "\(rows) rows of \(manifest.name) (\(manifest.organizationId)) in \(manifest.files.count) files, "
                + "as of \(manifest.exportedAt): every file holds")
        Terminal.print("signed under the root key \(verified.rootKeyHash)")
    }
}
