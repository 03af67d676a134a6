import Foundation
import Logging
import Process
import Testing
import Trust

@testable import cloudrmm

@Suite("Certificates of the listeners")
struct KeyFilesTests {
    private let scratch: ScratchKeys
    private static let api = "server.pem"
    private static let gateway = ["gateway/device-ca.pem", "gateway/server.pem"]

    init() throws { scratch = try ScratchKeys() }

    @Test("each is made anew once two thirds of its life are over, and not earlier", arguments: [59, 61])
    func due(day: Int64) throws {
        let before = try [scratch.content(Self.api), scratch.content(Self.gateway[1])]
        try scratch.renew(afterDays: day)
        let after = try [scratch.content(Self.api), scratch.content(Self.gateway[1])]
        for (old, new) in zip(before, after) { #expect((old != new) == (day == 61)) }
        #expect(after[0] != after[1])
    }

    @Test("where the gateways' files were moved to another host, the API's certificate is renewed in time")
    func moved() throws {
        let before = try scratch.content(Self.api)
        try renameFile("\(scratch.path)/gateway", to: "\(scratch.path)/moved")
        try scratch.renew()
        #expect(try scratch.content(Self.api) == before, "its time has not come")
        // New ones lie there to be copied, which the same authority has issued.
        #expect(try scratch.content(Self.gateway[0]) == scratch.content("moved/device-ca.pem"))
        #expect(try scratch.content(Self.gateway[1]) != scratch.content("moved/server.pem"))
        try Directory.removeTree("\(scratch.path)/gateway")
        try scratch.renew(afterDays: 61)
        #expect(try scratch.content(Self.api) != before)
        _ = try scratch.keys.gatewayFiles.tls().context()
    }

    @Test("a file of the gateways' that is missing or cannot be read is made anew", arguments: gateway)
    func missing(name: String) throws {
        let path = "\(scratch.path)/\(name)"
        let before = try scratch.content(Self.api)
        try removeFile(path)
        try scratch.renew()
        _ = try scratch.keys.gatewayFiles.tls().context()
        if name == Self.gateway[1] {
            try DurableFile.write([1, 2, 3], to: path)
            try scratch.renew()
            _ = try scratch.keys.gatewayFiles.tls().context()
        }
        #expect(try scratch.content(Self.api) == before)
    }

    @Test("the API takes its new certificate up, also where the gateways' files cannot be written")
    func apart() throws {
        let scratch = scratch
        try Directory.removeTree("\(scratch.path)/gateway")
        try makeFile([], at: "\(scratch.path)/gateway")
        let tls = try RenewedTLS(logger: Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }) {
            try scratch.keys.apiTLS()
        } renew: {
            try scratch.renew(afterDays: 61)
        }
        let (context, before) = (tls.context, try scratch.content(Self.api))
        #expect(throws: (any Error).self) { try scratch.renew() }
        tls.refresh()
        #expect(try scratch.content(Self.api) != before)
        #expect(tls.context !== context)
    }
}

@Suite("The key of stored secrets")
struct SealingKeyTests {
    @Test("is made once and kept, for its owner alone")
    func kept() throws {
        let scratch = try ScratchKeys()
        let label = SecretLabel(kind: .webhook, name: "n", version: 1)
        let sealed = try scratch.keys.openAPIKeys().sealing.seal(SecretBytes([1, 2, 3]), for: label)
        #expect(try scratch.keys.openAPIKeys().sealing.open(sealed, for: label).copy() == [1, 2, 3])
        let key = try scratch.content("sealing.key")
        #expect(key.count == SealingKeys.Key.byteCount)
        let mode = try FileManager.default.attributesOfItem(atPath: "\(scratch.path)/sealing.key")
        #expect(mode[.posixPermissions] as? Int == 0o600)
        let other = try ScratchKeys()
        let otherKeys = try other.keys.openAPIKeys().sealing
        #expect(throws: TrustError.self) { _ = try otherKeys.open(sealed, for: label) }
    }
}
