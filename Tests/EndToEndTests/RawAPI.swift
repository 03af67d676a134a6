import Domain
import Outbound
import Testing
import Wire

/// Requests of any shape, as a caller sends them who has read nothing.
struct RawAPI: Sendable {
    let url: String
    let certificateAuthority: String
    private let http = HTTPClient(policy: .operator)

    init(url: String, certificateAuthority: String) {
        (self.url, self.certificateAuthority) = (url, certificateAuthority)
    }

    func send(
        _ method: String, _ path: String, key: String? = nil, body: [UInt8] = [],
        headers further: [(String, String)] = []
    ) async throws -> HTTPResponse {
        var headers = [("Content-Type", "application/json")] + further
        if let key { headers.append(("Authorization", "Bearer \(key)")) }
        return try await http.send(
            HTTPRequest(
                method: method, url: url + path, headers: headers, body: body, timeout: .seconds(30),
                certificateAuthorityPath: certificateAuthority))
    }

    /// Sends what must be refused and returns the problem.
    func problem(
        _ method: String, _ path: String, key: String? = nil, body: [UInt8],
        sourceLocation: SourceLocation = #_sourceLocation
    ) async throws -> Problem {
        let response = try await send(method, path, key: key, body: body)
        #expect(
            response.header("content-type") == "application/problem+json",
            "\(response.status) \(String(decoding: response.body.prefix(300), as: UTF8.self))",
            sourceLocation: sourceLocation)
        let problem = try Problem.decode(response.body)
        #expect((400..<500).contains(response.status), "\(problem)", sourceLocation: sourceLocation)
        #expect(problem.status == response.status && !problem.detail.isEmpty, sourceLocation: sourceLocation)
        #expect(problem.requestId != nil, sourceLocation: sourceLocation)
        return problem
    }
}

/// What a refusal must say.
struct Refused {
    let status: Int
    let code: String
    var field: String?
    /// Parts of the sentence: the limit, what is allowed.
    var says: [String] = []

    func check(_ problem: Problem, _ what: String, sourceLocation: SourceLocation = #_sourceLocation) {
        #expect(
            problem.status == status && problem.code == code && problem.field == field, "\(what): \(problem)",
            sourceLocation: sourceLocation)
        for part in says {
            #expect(
                problem.detail.contains(part), "\(what): \(problem.detail)", sourceLocation: sourceLocation)
        }
    }
}
