import Outbound
package import Wire

/// An answer that is not one of this API: something else listens there, or another version of it.
package struct ClientError: Error, CustomStringConvertible {
    /// One sentence.
    package let description: String

    /// The error of an answer that is no success: a `Problem` if it is one.
    static func refusal(_ response: HTTPResponse) -> any Error {
        if response.header("content-type")?.hasPrefix("application/problem+json") == true,
            // What does not read as a problem is told by its status below.
            let problem = try? Problem.decode(response.body)
        {
            return problem
        }
        return ClientError(
            description:
                "the server answered with status \(response.status) and no problem: is it CloudRMM's API?")
    }

    /// The value of an answer's body.
    static func decode<Answer: WireObject>(_ body: [UInt8]) throws(ClientError) -> Answer {
        do {
            return try Answer.decode(body)
        } catch {
            throw ClientError(description: "the server's answer is not what this version expects: \(error)")
        }
    }
}

extension Problem {
    /// What a person needs to know of a problem, on one line.
    package var line: String {
        let id = requestId.map { " (request \($0))" } ?? ""
        return "\(detail) [\(code)]\(id)"
    }
}
