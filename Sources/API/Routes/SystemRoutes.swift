import Domain
import HTTPTypes
import Wire

/// Whether the parts that a request needs answer.
struct Readiness: WireObject {
    var ready: Bool
    var parts: [String: Bool]

    init(parts: [String: Bool]) {
        self.parts = parts
        ready = parts.values.allSatisfy { $0 }
    }

    init(from reader: inout FieldReader) throws(FieldError) {
        ready = try reader.field("ready")
        parts = try reader.field("parts")
    }

    func fields(to writer: inout JSONWriter) {
        writer.field("ready", ready)
        writer.field("parts", parts)
    }
}

extension Handlers {
    /// Health, readiness, and the description of everything, which needs the other routes.
    func systemRoutes(describing others: [Route]) -> [Route] {
        let routes: [Route] =
            [
                .open("/healthz", "Says that the process answers", "text/plain; charset=utf-8") { _ in
                    .bytes(Array("ok\n".utf8), "text/plain; charset=utf-8")
                },
                Route(
                    method: .get, path: "/readyz",
                    summary: "Says whether database and Redis answer; 503 if one does not",
                    caller: .anyone, status: .ok, answer: .json(Readiness.shape(.none)),
                    otherStatuses: [.serviceUnavailable]
                ) { _ in
                    let readiness = Readiness(parts: await readiness())
                    return .json(readiness, status: readiness.ready ? .ok : .serviceUnavailable)
                },
            ] + docsRoutes
        // The document describes itself too; for that its text does not matter.
        return routes + [Self.description(OpenAPI.document(of: others + routes + [Self.description([])]))]
    }

    private static func description(_ document: [UInt8]) -> Route {
        .fixed("/openapi.json", "This description", .fixed(document, "application/json"))
    }
}
