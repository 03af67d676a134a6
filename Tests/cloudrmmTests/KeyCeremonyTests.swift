import ArgumentParser
import Domain
import Engine
import Foundation
import Process
import Testing
import Trust

@testable import cloudrmm

@Suite("Root key and job keys") struct KeyCeremonyTests {
    private let scratch: ScratchKeys

    init() throws { scratch = try ScratchKeys() }

    private var signer: Signer { get throws { try scratch.keys.openAPIKeys().signer } }

    private func own() throws -> RootKey { try #require(try scratch.keys.ownRootKey) }

    @Test("The first key set is made once, and is the same ever after")
    func first() throws {
        let signer = try signer
        #expect(signer.keySetVersion == 1 && signer.jobKeys == [signer.jobKey])
        #expect(try self.signer.keySet == signer.keySet)
        #expect(try scratch.keys.rootPublicKey() == signer.rootKey)
    }

    @Test("An installation from before key sets were kept gets the one that its agents have")
    func older() throws {
        let before = try signer
        for name in ["keyset", "root.pub"] { try removeFile("\(scratch.path)/\(name)") }
        let after = try signer
        #expect(after.rootKey == before.rootKey && after.jobKeys == before.jobKeys)
        #expect(after.keySetVersion == 1)
    }

    @Test("A rotation signs with another key, and the one before still holds until it is retired")
    func rotate() async throws {
        let before = try signer
        let rotated = try await scratch.keys.rotateJobKey(root: own())
        #expect(rotated.keySetVersion == 2 && rotated.jobKey != before.jobKey)
        #expect(rotated.jobKeys == [before.jobKey, rotated.jobKey])
        #expect(try signer.keySet == rotated.keySet)
        #expect(!fileExists("\(scratch.path)/job-next.seed"))
        let retired = try await scratch.keys.retireJobKeys(allBut: rotated.jobKey, root: own())
        #expect(retired.keySetVersion == 3 && retired.jobKeys == [rotated.jobKey])
        #expect(retired.rootKey == before.rootKey)
    }

    @Test("A rotation that was cut off before its key set is forgotten, one cut off behind it is finished")
    func cutOff() async throws {
        let before = try signer
        let seed = Trust.randomBytes(32)
        try DurableFile.write(seed, to: "\(scratch.path)/job-next.seed")
        #expect(try signer.jobKey == before.jobKey)
        let rotated = try await scratch.keys.rotateJobKey(root: own())
        #expect(try rotated.jobKey != SigningKey(seed: seed).publicKey)
        // Behind the key set: its key is named and lies beside the one that signs.
        try renameFile("\(scratch.path)/job.seed", to: "\(scratch.path)/job-next.seed")
        let last = try SigningKey(seed: scratch.content("job-next.seed"))
        try DurableFile.write(seed, to: "\(scratch.path)/job.seed")
        let named = try Signer.keySet(
            version: 3, jobKeys: [SigningKey(seed: seed).publicKey, last.publicKey],
            serverCA: rotated.serverCA, deviceCA: scratch.keys.authorities().device.certificate,
            deployment: rotated.deployment, now: .now())
        try await DurableFile.write(own().sign(named).encoded, to: "\(scratch.path)/keyset")
        #expect(try signer.jobKey == SigningKey(seed: seed).publicKey, "the one before signs until then")
        await #expect(throws: CommandError.self, "what was judged for another key is not retired") {
            try await scratch.keys.retireJobKeys(allBut: SigningKey(seed: seed).publicKey, root: own())
        }
        let next = try await scratch.keys.rotateJobKey(root: own())
        #expect(next.keySetVersion == 4 && next.jobKeys.contains(last.publicKey))
        #expect(!fileExists("\(scratch.path)/job-next.seed"))
    }

    @Test("The root key may be kept elsewhere: everything goes on, and a rotation asks for it")
    func apart() async throws {
        let file = "\(scratch.path)-root"
        // What is left behind in /tmp harms nobody.
        defer { try? removeFile(file) }
        let before = try signer
        #expect(throws: CommandError.self) { try scratch.keys.moveRootKey(to: "\(scratch.path)/elsewhere") }
        // Another file is not written over; one from a move that was cut off is gone by.
        try DurableFile.write([1], to: file)
        #expect(throws: CommandError.self) { try scratch.keys.moveRootKey(to: file) }
        try DurableFile.write(scratch.content("root.seed"), to: file)
        try scratch.keys.moveRootKey(to: file)
        #expect(!fileExists("\(scratch.path)/root.seed") && fileExists(file))
        #expect(try signer.keySet == before.keySet)
        #expect(throws: CommandError.self) {
            _ = try RootKeyOptions.parse([]).root(of: scratch.keys)
        }
        let rotated = try await scratch.keys.rotateJobKey(
            root: RootKeyOptions.parse(["--root-key", file]).root(of: scratch.keys))
        #expect(rotated.keySetVersion == 2)
        try DurableFile.write(Trust.randomBytes(32), to: file)
        await #expect(throws: CommandError.self, "another root key") {
            try await scratch.keys.rotateJobKey(root: .file(file))
        }
        #expect(try signer.keySetVersion == 2)
    }

    @Test("A command signs with a root key that this host never sees; what it answers is verified")
    func command() async throws {
        let place = "\(scratch.path)-signer"
        try Directory.make(place, mode: 0o700)
        // As above.
        defer { try? Directory.removeTree(place) }
        func openssl(_ words: String) async throws -> [UInt8] {
            let report = try await ScriptRun(marker: "test").runToEnd(
                ChildOptions(executable: "/bin/sh", arguments: ["-c", "cd \(place) && openssl \(words)"]),
                limits: RunLimits(timeoutSeconds: 30, headBytes: 65_536, tailBytes: 0))
            try #require(report.exit == .exited(0))
            return report.stdout.head
        }
        _ = try await openssl("genpkey -algorithm ed25519 -out root.pem")
        let der = try await openssl("pkey -in root.pem -pubout -outform DER")
        let key = try VerifyingKey(bytes: Array(der.suffix(32)))
        let command = "cd \(place) && cat > bytes && openssl pkeyutl -sign -rawin -inkey root.pem -in bytes"
        let keys = try KeyFiles(directory: "\(place)/keys")
        await #expect(throws: (any Error).self) { try await keys.make(root: .command("exit 3", key)) }
        #expect(throws: CommandError.self, "no other root key is made") { _ = try keys.openAPIKeys() }
        #expect(!fileExists("\(place)/keys/root.seed"))
        let made = try await keys.make(root: .command(command + " | base64 -w0", key))
        #expect(made.rootKey == key && made.keySetVersion == 1)
        #expect(!fileExists("\(place)/keys/root.seed"))
        #expect(try await keys.rotateJobKey(root: .command(command, key)).keySetVersion == 2)
        for wrong in ["exit 3", "head -c 64 /dev/zero", "echo no", "true"] {
            await #expect(throws: (any Error).self, "\(wrong)") {
                try await keys.rotateJobKey(root: .command(wrong, key))
            }
        }
        #expect(try keys.openAPIKeys().signer.keySetVersion == 2)
        await #expect(throws: CommandError.self, "made already") { try await keys.make(root: nil) }
    }

    @Test("A job key that is gone is not made anew: no key set names another")
    func lost() throws {
        _ = try signer
        try removeFile("\(scratch.path)/job.seed")
        #expect(throws: (any Error).self) { _ = try signer }
        #expect(!fileExists("\(scratch.path)/job.seed"))
    }
}
