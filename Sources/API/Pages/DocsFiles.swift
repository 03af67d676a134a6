import Foundation
import HTTPTypes
import Trust

/// The files of Swagger UI that show the description, as a directory had them when this was made.
///
/// A few files are read, by names that are fixed here, and kept: no request names a file, so none leads out
/// of the directory, and what is put there later is not served. Links are not followed.
package struct DocsFiles: Sendable {
    /// The lowest version that shows OpenAPI 3.1.
    static let versionMin = 5
    private static let bytesMax = 16 << 20
    private static let types = [
        ("swagger-ui.css", "text/css; charset=utf-8"),
        ("swagger-ui-bundle.js", "text/javascript; charset=utf-8"), ("favicon-32x32.png", "image/png"),
    ]
    /// What stands in the bundle before its version.
    private static let versionMark = Data(#"PACKAGE_VERSION:""#.utf8)

    /// One file.
    struct File: Sendable {
        let name: String
        let contentType: String
        let bytes: [UInt8]
    }

    let files: [File]

    /// The files of a directory.
    /// - Throws: `APIError` where one is missing, is no plain file or is too large, or where they are of a
    ///   version below 5.
    package init(directory: String) throws(APIError) {
        var files: [File] = []
        for (name, type) in Self.types {
            files.append(File(name: name, contentType: type, bytes: try Self.read("\(directory)/\(name)")))
        }
        try Self.checkVersion(Data(files[1].bytes), directory)
        self.files = files
    }

    private static func read(_ path: String) throws(APIError) -> [UInt8] {
        do {
            // Of a link this says that it is one.
            let attributes = try FileManager.default.attributesOfItem(atPath: path)
            guard attributes[.type] as? FileAttributeType == .typeRegular,
                let size = attributes[.size] as? Int, size <= bytesMax
            else { throw APIError(description: "it is no plain file of at most \(bytesMax) bytes") }
            return [UInt8](try Data(contentsOf: URL(filePath: path)))
        } catch {
            throw APIError(description: "\(path) of the documentation cannot be served: \(error)")
        }
    }

    private static func checkVersion(_ bundle: Data, _ directory: String) throws(APIError) {
        let text = bundle.range(of: versionMark).map { bundle[$0.upperBound...].prefix(16) } ?? Data()
        let major = String(decoding: text, as: UTF8.self).prefix { $0.isNumber }
        guard let number = Int(major), number >= versionMin else {
            throw APIError(
                description: "Swagger UI in \(directory) is of version \(major.isEmpty ? "unknown" : major); "
                    + "OpenAPI 3.1 needs \(versionMin) or later")
        }
    }
}

extension Handlers {
    /// The pages for people, and what they load.
    var docsRoutes: [Route] {
        var routes: [Route] = [
            .fixed(
                "/docs", "Shows this description to people",
                .page(
                    docs == nil ? PackageResources.docs_missing_html : PackageResources.docs_html,
                    "text/html; charset=utf-8")),
            .fixed(
                "/docs/problems", "Lists the codes of problems",
                .page(ProblemPage.html, "text/html; charset=utf-8")),
            .fixed(
                "/docs/docs.css", "The style of the pages",
                .page(PackageResources.docs_css, "text/css; charset=utf-8")),
        ]
        guard let docs else { return routes }
        routes.append(
            .fixed(
                "/docs/docs.js", "Begins the page",
                .page(PackageResources.docs_js, "text/javascript; charset=utf-8")))
        for file in docs.files {
            routes.append(
                .fixed(
                    "/docs/\(file.name)", "A part of the page", .page(file.bytes, file.contentType)))
        }
        return routes
    }
}

extension Route {
    /// A call that anyone may make, which is always answered the same.
    static func fixed(_ path: String, _ summary: String, _ reply: Reply) -> Route {
        .open(path, summary, reply.headers[.contentType] ?? "") { _ in reply }
    }
}

extension Reply {
    /// Bytes that stay the same as long as this runs: compressed once, with their hash as their tag.
    static func fixed(_ bytes: [UInt8], _ contentType: String) -> Reply {
        var reply = Reply.bytes(bytes, contentType)
        reply.headers[.eTag] = "\"\(Base64URL.encode(Array(SHA256.hash(bytes).prefix(16))))\""
        // It is asked each time whether it still is what the browser has.
        reply.headers[.cacheControl] = "no-cache"
        reply.compressed = Compression.compress(bytes, contentType)
        return reply
    }

    /// A part of a page that may load what this listener serves and nothing else.
    fileprivate static func page(_ bytes: [UInt8], _ contentType: String) -> Reply {
        var reply = Reply.fixed(bytes, contentType)
        if let name = HTTPField.Name("Content-Security-Policy") {
            reply.headers[name] =
                "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; "
                + "img-src 'self' data:; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
        }
        return reply
    }
}
