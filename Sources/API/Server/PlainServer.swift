import Hummingbird
package import Logging

/// A listener for people and programs on this machine: plain HTTP on the loopback, a few fixed answers.
package struct PlainServer: Sendable {
    private let responder: RouterResponder<BasicRequestContext>
    private let name: String
    private let port: Int
    private let logger: Logger
    private let onBound: @Sendable (Int) -> Void

    /// Health for supervisors and metrics as Prometheus text.
    package static func operations(
        port: Int, readiness: @escaping @Sendable () async -> [String: Bool],
        metrics: @escaping @Sendable () async -> String, logger: Logger,
        onBound: @escaping @Sendable (Int) -> Void
    ) -> PlainServer {
        let router = Self.router()
        router.get("healthz") { _, _ in "ok\n" }
        router.get("readyz") { _, _ in
            let parts = await readiness()
            let text = parts.sorted { $0.key < $1.key }.map { "\($0.key) \($0.value ? "ok" : "down")\n" }
                .joined()
            let status: HTTPResponse.Status = parts.values.allSatisfy { $0 } ? .ok : .serviceUnavailable
            return Response(
                status: status, headers: [.contentType: "text/plain; charset=utf-8"],
                body: ResponseBody(byteBuffer: ByteBuffer(string: text)))
        }
        router.get("metrics") { _, _ in
            Response(
                status: .ok, headers: [.contentType: "text/plain; version=0.0.4; charset=utf-8"],
                body: ResponseBody(byteBuffer: ByteBuffer(string: await metrics())))
        }
        return PlainServer(
            responder: router.buildResponder(), name: "the operations port", port: port, logger: logger,
            onBound: onBound)
    }

    /// Leads every path to another address.
    package static func redirect(
        port: Int, to location: String, logger: Logger, onBound: @escaping @Sendable (Int) -> Void
    ) -> PlainServer {
        let router = Self.router()
        router.get("/") { _, _ in Response(status: .found, headers: [.location: location]) }
        router.get("**") { _, _ in Response(status: .found, headers: [.location: location]) }
        return PlainServer(
            responder: router.buildResponder(), name: "the web port", port: port, logger: logger,
            onBound: onBound)
    }

    private static func router() -> Router<BasicRequestContext> {
        let router = Router()
        router.add(middleware: LoopbackHosts())
        return router
    }

    /// Serves until cancelled or shut down.
    package func run() async throws {
        let (onBound, port, listening) = (onBound, port, Listening())
        let application = Application(
            responder: responder,
            configuration: ApplicationConfiguration(address: .hostname("127.0.0.1", port: port)),
            onServerRunning: { channel in
                listening.begin()
                onBound(channel.localAddress?.port ?? port)
            }, logger: logger)
        try await listening.run(name, "127.0.0.1", port) { try await application.run() }
    }
}

/// Refuses every Host but this machine's own names: a page elsewhere whose name was made to lead here must
/// not read what is for this machine.
private struct LoopbackHosts: RouterMiddleware {
    @concurrent func handle(
        _ request: Request, context: BasicRequestContext,
        next: @concurrent (Request, BasicRequestContext) async throws -> Response
    ) async throws -> Response {
        guard let authority = request.head.authority,
            APIConfiguration.loopback.contains(RequestHeaders.hostName(authority))
        else { throw HTTPError(.misdirectedRequest, message: "this host is not served here") }
        return try await next(request, context)
    }
}
