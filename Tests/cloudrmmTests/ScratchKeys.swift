import Domain
import Glibc
import Process
import Trust

@testable import cloudrmm

/// An installation's directory of keys with the certificates of a first start, removed with its owner.
final class ScratchKeys: Sendable {
    let path: String

    init() throws {
        let name = try Process.randomBytes(5).map { String($0, radix: 16) }.joined()
        path = "/tmp/crmm-keys-\(getpid())-\(name)"
        try keys.issueServerCertificates(api: ListenerNames(), gateway: ListenerNames())
    }

    deinit {
        // A directory that is left behind in /tmp harms nobody.
        try? Directory.removeTree(path)
    }

    var keys: KeyFiles { get throws { try KeyFiles(directory: path) } }

    /// What the API does from time to time, so many days after the start.
    func renew(afterDays days: Int64 = 0) throws {
        try keys.renewServerCertificates(
            api: ListenerNames(), gateway: ListenerNames(), now: .now() + .seconds(days * 86_400))
    }

    /// The content of a file of the directory.
    func content(_ name: String) throws -> [UInt8] { try readFile("\(path)/\(name)", max: 65_536) }
}
