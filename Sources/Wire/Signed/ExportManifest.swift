package import Domain

/// What an exported archive holds.
///
/// An archive is a tar (POSIX ustar) of files with a line of JSON for each row, then `root.key`, the public
/// root key's 32 bytes; `keyset`, the statement in which it says which keys sign; `manifest.json`, which is
/// this; and `manifest.signed`, the statement with its hash, an ``ExportSeal``, signed by one of those keys.
package struct ExportManifest: WireObject, Equatable {
    /// The largest manifest in bytes: some 400,000 files.
    package static let bytesMax = 64 << 20

    /// A file of rows.
    package struct File: WireObject, Equatable {
        /// Its name, how many rows and bytes it has, and their SHA-256 in hexadecimal.
        package var name: String
        package var rows: Int
        package var bytes: Int
        package var sha256: String

        /// A file.
        package init(name: String, rows: Int, bytes: Int, sha256: String) {
            self.name = name
            self.rows = rows
            self.bytes = bytes
            self.sha256 = sha256
        }

        /// Reads the fields.
        package init(from reader: inout FieldReader) throws(FieldError) {
            name = try reader.field("name")
            rows = try reader.field("rows")
            bytes = try reader.field("bytes")
            sha256 = try reader.field("sha256", String.self, .in(64...64))
        }

        /// Appends the fields.
        package func fields(to writer: inout JSONWriter) {
            writer.field("name", name)
            writer.field("rows", rows)
            writer.field("bytes", bytes)
            writer.field("sha256", sha256)
        }
    }

    /// The installation, and whose rows these are, under which name and as of which version.
    package var deploymentId: DeploymentID
    package var organizationId: OrganizationID
    package var name: String
    package var version: Int
    /// When the export began.
    package var exportedAt: Instant
    /// Every file of rows, in the order of the archive.
    package var files: [File]

    /// A manifest without files yet.
    package init(
        deployment: DeploymentID, organization: OrganizationID, name: String, version: Int,
        exportedAt: Instant
    ) {
        deploymentId = deployment
        organizationId = organization
        self.name = name
        self.version = version
        self.exportedAt = exportedAt
        files = []
    }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        deploymentId = try reader.field("deploymentId")
        organizationId = try reader.field("organizationId")
        name = try reader.field("name")
        version = try reader.field("version")
        exportedAt = try reader.field("exportedAt")
        files = try reader.field("files")
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) {
        writer.field("deploymentId", deploymentId)
        writer.field("organizationId", organizationId)
        writer.field("name", name)
        writer.field("version", version)
        writer.field("exportedAt", exportedAt)
        writer.field("files", files)
    }
}

/// Payload of an export's statement.
package struct ExportSeal: WireObject, Equatable {
    /// The SHA-256 of `manifest.json` in hexadecimal.
    package var manifestSha256: String

    /// A seal of a manifest.
    package init(manifestSha256: String) { self.manifestSha256 = manifestSha256 }

    /// Reads the fields.
    package init(from reader: inout FieldReader) throws(FieldError) {
        manifestSha256 = try reader.field("manifestSha256", String.self, .in(64...64))
    }

    /// Appends the fields.
    package func fields(to writer: inout JSONWriter) { writer.field("manifestSha256", manifestSha256) }
}
