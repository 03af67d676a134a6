import Logging
import Process
import Testing
import Trust

@testable import cloudrmm

@Suite("What the next connection of a listener is met with")
struct RenewedTLSTests {
    private let scratch: ScratchKeys
    private let quiet = Logger(label: "test") { _ in SwiftLogNoOpLogHandler() }

    init() throws { scratch = try ScratchKeys() }

    @Test("a context stays for as long as the files do, so that callers' tickets outlive a look at them")
    func kept() throws {
        let scratch = scratch
        let api = try RenewedTLS(logger: quiet) { try scratch.keys.apiTLS() }
        let gateway = try RenewedTLS(logger: quiet) { try scratch.keys.gatewayFiles.tls() }
        let before = (api.context, gateway.context)
        for listener in [api, gateway] { listener.refresh() }
        #expect(api.context === before.0 && gateway.context === before.1)
        try scratch.renew(afterDays: 61)
        for listener in [api, gateway] { listener.refresh() }
        #expect(api.context !== before.0 && gateway.context !== before.1)
    }

    @Test("other keys of tickets, as each hour brings them, make another context")
    func tickets() throws {
        let scratch = scratch
        let gateway = try RenewedTLS(logger: quiet) { try scratch.keys.gatewayFiles.tls() }
        let before = gateway.context
        let keys = TicketKeys(at: systemSeconds())
        try DurableFile.write(keys.bytes, to: "\(scratch.path)/gateway/tickets.key")
        gateway.refresh()
        #expect(gateway.context !== before)
    }

    @Test("files that cannot be used leave the context, and are taken up once they can")
    func unusable() throws {
        let scratch = scratch
        let good = try scratch.content("server.pem")
        let api = try RenewedTLS(logger: quiet) { try scratch.keys.apiTLS() }
        let before = api.context
        try DurableFile.write([1, 2, 3], to: "\(scratch.path)/server.pem")
        api.refresh()
        #expect(api.context === before)
        try removeFile("\(scratch.path)/server.pem")
        api.refresh()
        #expect(api.context === before)
        try DurableFile.write(good, to: "\(scratch.path)/server.pem")
        api.refresh()
        #expect(api.context === before)
        try scratch.renew(afterDays: 61)
        api.refresh()
        #expect(api.context !== before)
    }
}
