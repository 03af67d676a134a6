import Foundation
import Outbound
import Testing
import Wire

@testable import API

@Suite("The pages for people")
struct DocsTests {
    /// A directory as an installation leaves it.
    private static func directory(version: String = "5.34.0") throws -> String {
        let directory = FileManager.default.temporaryDirectory.appending(path: "crmm-docs-\(UUID())").path
        try FileManager.default.createDirectory(atPath: directory, withIntermediateDirectories: true)
        let bundle = "var v={PACKAGE_VERSION:\"\(version)\"};" + String(repeating: "// a\n", count: 1_000)
        for (name, text) in [
            ("swagger-ui.css", "a{}"), ("swagger-ui-bundle.js", bundle), ("favicon-32x32.png", "png"),
            ("secret.txt", "secret"),
        ] {
            try Data(text.utf8).write(to: URL(filePath: "\(directory)/\(name)"))
        }
        return directory
    }

    @Test("without files the page links the description and says how to install them")
    func missing() async throws {
        try await TestAPI.with { api in
            let page = try await api.call("GET", "/docs", key: .some(nil))
            let html = String(decoding: page.body, as: UTF8.self)
            #expect(html.contains("href=\"/openapi.json\"") && html.contains("Scripts/install_docs"))
            #expect(html.contains("CLOUDRMM_DOCS_DIR") && !html.contains("<script"))
            try await Self.check(page, html, api)
            #expect(try await api.call("GET", "/docs/docs.js", key: .some(nil)).status == 404)
        }
    }

    @Test("with files the page is Swagger UI, from this listener only and without inline code")
    func installed() async throws {
        let directory = try Self.directory()
        defer { try? FileManager.default.removeItem(atPath: directory) }  // the system empties it otherwise
        let files = try DocsFiles(directory: directory)
        try await TestAPI.with(configure: { $0.docs = files }) { api in
            let page = try await api.call("GET", "/docs", key: .some(nil))
            let html = String(decoding: page.body, as: UTF8.self)
            try await Self.check(page, html, api)
            #expect(html.contains("/docs/swagger-ui-bundle.js") && html.contains("/docs/docs.js"))
            let bundle = try await api.call("GET", "/docs/swagger-ui-bundle.js", key: .some(nil))
            #expect(bundle.header("content-type") == "text/javascript; charset=utf-8")
            #expect(bundle.body.count > 5_000 && bundle.header("cache-control") == "no-cache")
            let tag = try #require(bundle.header("etag"))
            let again = try await api.call(
                "GET", "/docs/swagger-ui-bundle.js", key: .some(nil), headers: [("If-None-Match", tag)])
            #expect(again.status == 304 && again.body.isEmpty)
            let icon = try await api.call("GET", "/docs/favicon-32x32.png", key: .some(nil))
            #expect(icon.header("content-type") == "image/png" && icon.body == Array("png".utf8))
            // Nothing else of the directory, and nothing outside it.
            for path in [
                "secret.txt", "../secret.txt", "..%2fsecret.txt", "%2e%2e/secret.txt",
                "%2e%2e%2fetc%2fpasswd",
                "..%5csecret.txt", "....//secret.txt", "swagger-ui.css/../secret.txt", "%2Fetc%2Fpasswd",
                "swagger-ui.css%00.txt", ".", "..", "",
            ] {
                let response = try await api.call("GET", "/docs/\(path)", key: .some(nil))
                #expect(response.status == 404 || path.isEmpty || path == "." || path == "..", "\(path)")
                #expect(!String(decoding: response.body, as: UTF8.self).contains("secret\n"), "\(path)")
                #expect(response.body != Array("secret".utf8), "\(path)")
            }
            // What is changed later is not served.
            try Data("other".utf8).write(to: URL(filePath: "\(directory)/swagger-ui.css"))
            let style = try await api.call("GET", "/docs/swagger-ui.css", key: .some(nil))
            #expect(style.body == Array("a{}".utf8))
        }
    }

    @Test("a link, a missing file, a directory and an old version are refused by name")
    func refused() throws {
        let directory = try Self.directory()
        let old = try Self.directory(version: "4.15.5")
        defer {
            for one in [directory, old] {
                try? FileManager.default.removeItem(atPath: one)  // the system empties it otherwise
            }
        }
        _ = try DocsFiles(directory: directory)
        let version = #expect(throws: APIError.self) { _ = try DocsFiles(directory: old) }
        #expect(version?.description.contains("is of version 4") == true)
        let style = "\(directory)/swagger-ui.css"
        try FileManager.default.removeItem(atPath: style)
        let missing = #expect(throws: APIError.self) { _ = try DocsFiles(directory: directory) }
        #expect(missing?.description.contains(style) == true)
        try FileManager.default.createSymbolicLink(
            atPath: style, withDestinationPath: "\(directory)/secret.txt")
        let link = #expect(throws: APIError.self) { _ = try DocsFiles(directory: directory) }
        #expect(link?.description.contains("no plain file") == true)
        try FileManager.default.removeItem(atPath: style)
        try FileManager.default.createDirectory(atPath: style, withIntermediateDirectories: false)
        #expect(throws: APIError.self) { _ = try DocsFiles(directory: directory) }
    }

    /// A page loads only what this listener serves, and runs no code that stands in it.
    private static func check(_ page: HTTPResponse, _ html: String, _ api: TestAPI) async throws {
        #expect(page.status == 200 && page.header("x-content-type-options") == "nosniff")
        let policy = try #require(page.header("content-security-policy"))
        #expect(policy.contains("default-src 'none'") && !policy.contains("unsafe"))
        #expect(!html.contains("http://") && !html.contains("https://"))
        #expect(!html.contains("<script>") && !html.contains("<style") && !html.contains("style="))
        for match in html.matches(of: /(?:href|src)="([^"]+)"/) {
            let part = try await api.call("GET", String(match.1), key: .some(nil))
            #expect(part.status == 200 && !part.body.isEmpty, "\(match.1)")
        }
    }
}
