import Access
import Client
import Domain
import Foundation
import Outbound
import Testing
import Wire

@testable import API

@Suite("Answers made smaller")
struct CompressionTests {
    @Test("a large answer is gzip for who takes it, the same in content, and as it is for who does not")
    func large() async throws {
        try await TestAPI.with { api in
            let plain = try await api.call("GET", "/openapi.json", key: .some(nil))
            #expect(plain.header("content-encoding") == nil && plain.header("vary") == "Accept-Encoding")
            let small = try await api.call(
                "GET", "/openapi.json", key: .some(nil), headers: [("Accept-Encoding", "br, gzip;q=0.8")])
            #expect(small.header("content-encoding") == "gzip" && small.body.count * 4 < plain.body.count)
            #expect(small.header("content-length") == "\(small.body.count)")
            #expect(try await Self.unpacked(small.body) == plain.body)
            let head = try await api.call(
                "HEAD", "/openapi.json", key: .some(nil), headers: [("Accept-Encoding", "gzip")])
            #expect(head.body.isEmpty && head.header("content-length") == "\(small.body.count)")
        }
    }

    @Test(
        "small answers, changes with what they show, and what a browser's cookie asked for stay as they are")
    func not() async throws {
        try await TestAPI.with { api in
            let takes = [("Accept-Encoding", "gzip")]
            let client = APIClient(url: api.url, key: api.admin)
            defer { client.close() }
            for count in 0..<20 {
                _ = try await client.createPartner(NewPartner(name: "partner number \(count)"))
            }
            let list = try await api.call("GET", "/v1/partners?limit=100", headers: takes)
            #expect(list.header("content-encoding") == "gzip")
            let one = try await api.call("GET", "/v1/partners/\(api.one.partner)", headers: takes)
            #expect(one.status == 200 && one.header("content-encoding") == nil)
            let (_, person, _) = try await api.person("a@example.com", .platformAdmin, on: .platform)
            defer { person.close() }
            let body = #"{"email":"a@example.com","password":"correct horse battery","cookie":true}"#
            let session = try await api.call(
                "POST", "/v1/sessions", key: .some(nil), body: body, headers: takes)
            #expect(session.status == 201 && session.header("content-encoding") == nil)
            let cookie = try #require(
                session.header("set-cookie")?.split(separator: ";").first.map(String.init))
            let read = try await api.call(
                "GET", "/v1/partners?limit=100", key: .some(nil), headers: takes + [("Cookie", cookie)])
            #expect(read.status == 200 && read.header("content-encoding") == nil)
            #expect(read.body.count > Compression.bytesMin)
        }
    }

    @Test("a tag of a compressed answer is another, and is taken back all the same")
    func tags() async throws {
        try await TestAPI.with { api in
            let client = APIClient(url: api.url, key: api.admin)
            defer { client.close() }
            let contacts = (0..<20).map { Contact(name: "somebody number \($0)", role: "asked about it") }
            _ = try await client.edit(
                api.one.organization, NewOrganizationChanges(contacts: .set(contacts)))
            let path = "/v1/organizations/\(api.one.organization)"
            let read = try await api.call("GET", path, headers: [("Accept-Encoding", "gzip")])
            #expect(read.header("content-encoding") == "gzip" && read.header("etag") == "\"2-gzip\"")
            let tag = try #require(read.header("etag"))
            for known in [tag, "\"2\""] {
                let again = try await api.call("GET", path, headers: [("If-None-Match", known)])
                #expect(again.status == 304 && again.header("etag") == known)
            }
            let edited = try await api.call(
                "PATCH", path, body: #"{"name":"x"}"#, headers: [("If-Match", tag)])
            #expect(edited.status == 200)
            let late = try await api.call("PATCH", path, body: #"{"name":"y"}"#, headers: [("If-Match", tag)])
            #expect(late.status == 412)
        }
    }

    @Test(
        "gzip is sent where it is taken and not liked less",
        arguments: [
            ("gzip", true), ("x-gzip", true), ("GZIP", true), ("*", true), ("br, *;q=0.5", true),
            ("gzip;q=0.001", true), ("gzip ; q=0.5, identity;q=0.5", true), ("deflate, gzip;q=1.0", true),
            ("", false), ("br", false), ("gzip;q=0", false), ("gzip;q=0.0, *", false), ("*;q=0", false),
            ("identity", false), ("identity;q=1, gzip;q=0.5", false), ("gzip;q=x", false), ("gzipped", false),
        ])
    func accepted(text: String, isTaken: Bool) { #expect(Compression.takesGzip([text]) == isTaken) }

    /// What gzip itself makes of bytes.
    private static func unpacked(_ bytes: [UInt8]) async throws -> [UInt8] {
        let file = FileManager.default.temporaryDirectory.appending(path: "crmm-\(UUID()).gz")
        try Data(bytes).write(to: file)
        defer { try? FileManager.default.removeItem(at: file) }  // the system empties it otherwise
        let process = Process()
        process.executableURL = URL(filePath: "/bin/gzip")
        process.arguments = ["-dc", file.path]
        let output = Pipe()
        process.standardOutput = output
        try process.run()
        let text = try output.fileHandleForReading.readToEnd() ?? Data()
        process.waitUntilExit()
        #expect(process.terminationStatus == 0)
        return Array(text)
    }
}
