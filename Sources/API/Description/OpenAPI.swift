import Access
import HTTPTypes
import Wire

/// The OpenAPI 3.1 document of a table of routes.
///
/// Objects become components by the name of their type; everything else stands where it is used. Bodies are
/// strict (`additionalProperties: false`), since unknown fields are refused; answers may grow.
enum OpenAPI {
    /// The document as JSON text.
    static func document(of routes: [Route]) -> [UInt8] {
        var components = Components()
        components.add(Problem.shape(.none))
        let paths = Dictionary(grouping: routes, by: \.path)
        var writer = JSONWriter()
        writer.object { writer in
            writer.field("openapi", "3.1.0")
            writer.object("info") { writer in
                writer.field("title", "CloudRMM")
                writer.field("version", "1")
                writer.field(
                    "description",
                    "Work on fleets of devices of many customers. Refusals are problems of RFC 9457 with a "
                        + "stable code; lists have a cursor.")
            }
            writer.object("paths") { writer in
                for path in paths.keys.sorted() {
                    writer.object(path) { writer in
                        for route in paths[path] ?? [] {
                            writer.object(route.method.rawValue.lowercased()) {
                                operation(route, &$0, &components)
                            }
                        }
                    }
                }
            }
            writer.object("components") { writer in
                writer.object("securitySchemes") { writer in
                    writer.object("apiKey") { writer in
                        writer.field("type", "http")
                        writer.field("scheme", "bearer")
                        writer.field(
                            "description",
                            "An API key (crmm_ and 43 characters), the text of a session, or a token (JWT) "
                                + "of an issuer that is believed")
                    }
                    writer.object("session") { writer in
                        writer.field("type", "apiKey")
                        writer.field("in", "cookie")
                        writer.field("name", SessionCookie.name)
                        writer.field(
                            "description",
                            "A session of a browser; changes need its X-CSRF-Token and the Origin of the host"
                        )
                    }
                }
                writer.object("headers") { writer in
                    for (name, text, example) in sharedHeaders {
                        writer.object(name) { writer in
                            writer.field("description", text)
                            writer.object("schema") { $0.field("type", "string") }
                            writer.field("example", example)
                        }
                    }
                }
                writer.object("schemas") { components.write(to: &$0) }
            }
        }
        return writer.bytes
    }

    /// Headers of answers, with what they say.
    private static let sharedHeaders = [
        ("X-Request-Id", "Names the request, as the log has it", Examples.requestID),
        ("ETag", "The version, to be sent as If-Match with a change", "\"1\""),
        (
            "RateLimit", "What is left to the caller, and until it has all again (draft of the IETF)",
            "\"principal\";r=99999;t=1"
        ),
        ("RateLimit-Policy", "How many requests in how many seconds", "\"principal\";q=100000;w=10"),
        ("Retry-After", "Seconds after which it may be worth asking again", "1"),
    ]

    private static func operation(_ route: Route, _ writer: inout JSONWriter, _ components: inout Components)
    {
        writer.field("operationId", operationID(route))
        writer.field("summary", route.summary)
        let known = JSON.array(
            ["apiKey", "session"].map { .object([JSONMember(name: $0, value: .array([]))]) })
        switch route.caller {
        case .permitted(let permission):
            writer.field("description", "Needs the permission \(permission.rawValue).")
            writer.field("x-permission", permission.rawValue)
            writer.field("security", known)
        case .known:
            writer.field("description", "For every caller who is known.")
            writer.field("security", known)
        case .anyone:
            writer.field("description", "For anyone.")
            writer.field("security", JSON.array([]))
        }
        writer.field("parameters", Parameters.of(route))
        if let body = route.body {
            components.add(body.shape, isBody: true)
            writer.object("requestBody") { writer in
                writer.field("required", true)
                writer.object("content") {
                    content("application/json", body.shape, Examples.body(body.shape), &$0)
                }
            }
        }
        writer.object("responses") { writer in
            success(route, &writer, &components)
            for (status, codes) in ProblemCode.byStatus(route.refusals)
            where !route.otherStatuses.contains(status) {
                writer.object(String(status.code)) { refusal(status, codes, &$0) }
            }
        }
    }

    private static func success(_ route: Route, _ writer: inout JSONWriter, _ components: inout Components) {
        writer.object(String(route.status.code)) { writer in
            writer.field("description", route.status.reasonPhrase)
            headers(route.headers + (route.isVersioned ? ["ETag"] : []), &writer)
            guard let (type, shape) = route.answer.content else { return }
            components.add(shape)
            writer.object("content") { content(type, shape, route.example, &$0) }
        }
        for status in route.otherStatuses {
            writer.object(String(status.code)) { writer in
                writer.field("description", status.reasonPhrase)
                guard let (type, shape) = route.answer.content else { return }
                writer.object("content") { content(type, shape, route.example, &$0) }
            }
        }
    }

    /// A problem with one of the codes, which the schema lists.
    private static func refusal(
        _ status: HTTPResponse.Status, _ codes: [ProblemCode], _ writer: inout JSONWriter
    ) {
        let names = codes.map(\.rawValue)
        writer.field("description", "\(status.reasonPhrase): \(names.joined(separator: ", "))")
        let waits = [429, 503].contains(status.code) && codes != [.tooManyStreams] ? ["Retry-After"] : []
        headers(["X-Request-Id"] + waits, &writer)
        writer.object("content") { writer in
            writer.object("application/problem+json") { writer in
                writer.object("schema") { writer in
                    writer.field("$ref", "#/components/schemas/Problem")
                    writer.object("properties") { writer in
                        writer.object("code") { $0.field("enum", names) }
                        writer.object("status") { $0.field("const", status.code) }
                    }
                }
                var example = Problem(codes[0], codes[0].meaning)
                example.requestId = Examples.requestID
                writer.field("example", example)
            }
        }
    }

    private static func headers(_ names: [String], _ writer: inout JSONWriter) {
        writer.object("headers") { writer in
            for name in names {
                writer.object(name) { $0.field("$ref", "#/components/headers/\(name)") }
            }
        }
    }

    private static func content(
        _ type: String, _ shape: Shape, _ example: JSON?, _ writer: inout JSONWriter
    ) {
        writer.object(type) { writer in
            writer.field("schema", Components.schema(shape))
            writer.field("example", example)
        }
    }

    /// `get_v1_jobs_id_runs`.
    private static func operationID(_ route: Route) -> String {
        let words = route.path.split { !$0.isLetter && !$0.isNumber }
        return ([route.method.rawValue.lowercased()] + words.map(String.init)).joined(separator: "_")
    }
}

extension Route {
    /// An answer as an example; for a stream one event of it.
    fileprivate var example: JSON? {
        switch answer {
        case .json(let shape): Examples.answer(shape)
        case .events(let shape):
            .string("data: \(String(decoding: Examples.answer(shape).json, as: UTF8.self))\n\n")
        case .other(let type): .string(type.hasPrefix("text/plain") ? "ok\n" : "…")
        case .empty: nil
        }
    }

    /// Headers of its answers.
    fileprivate var headers: [String] {
        ["X-Request-Id"] + (caller == .anyone ? [] : ["RateLimit", "RateLimit-Policy"])
    }
}

extension Route.Answer {
    /// The content type, and the shape of what it carries: of a stream each event's data.
    fileprivate var content: (String, Shape)? {
        switch self {
        case .json(let shape): ("application/json", shape)
        case .events(let shape): ("text/event-stream", shape)
        case .other(let type): (type, .any)
        case .empty: nil
        }
    }
}
