import Process
import Testing

@testable import Embedded

@Suite struct SecretStoreTests {
    @Test("a secret is made once, 0600, and differs by name")
    func once() throws {
        let scratch = try Scratch()
        let store = try SecretStore(directory: scratch.data)
        let first = try store.secret("one")
        #expect(try SecretStore(directory: scratch.data).secret("one") == first)
        #expect(try store.secret("two") != first)
        #expect(FileStatus("\(scratch.data)/one")?.mode == 0o600)
        #expect(FileStatus(scratch.data)?.mode == 0o700)
    }

    @Test("names that are paths, open files and damaged files are refused")
    func refused() throws {
        let scratch = try Scratch()
        let store = try SecretStore(directory: scratch.data)
        for name in ["", "../x", "a/b", "A", "a.b"] {
            #expect(throws: EmbeddedError.self, "\(name)") { try store.secret(name) }
        }
        _ = try store.secret("open")
        try FileStatus.setMode("\(scratch.data)/open", 0o644)
        #expect(throws: EmbeddedError.self) { try store.secret("open") }
        try DurableFile.write([65], to: "\(scratch.data)/short")
        #expect(throws: EmbeddedError.self) { try store.secret("short") }
    }

    @Test(
        "base64url as in RFC 4648",
        arguments: [
            ([], ""), ([0x66], "Zg"), ([0x66, 0x6f], "Zm8"), ([0x66, 0x6f, 0x6f], "Zm9v"),
            ([0xfb, 0xff], "-_8"),
        ] as [([UInt8], String)])
    func base64URL(bytes: [UInt8], text: String) {
        #expect(SecretStore.base64URL(bytes) == text)
    }

    @Test("what has a meaning in an address is percent-encoded")
    func percentEncoding() {
        #expect("/run/a-b_c.d~9Z".percentEncoded(keepsSlashes: true) == "/run/a-b_c.d~9Z")
        #expect("p@/:%?ß\u{1}".percentEncoded(keepsSlashes: false) == "p%40%2F%3A%25%3F%C3%9F%01")
    }
}
