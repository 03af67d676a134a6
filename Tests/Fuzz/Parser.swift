/// A parser of what strangers send.
enum Parser: String, CaseIterable, Sendable {
    /// Bodies of the API, and JSON as such.
    case bodies
    /// What stands behind the question mark.
    case queries
    /// Header fields, a line each.
    case headers
    /// Keys, sessions, links and codes; requests for a certificate.
    case tokens
    /// Tokens of other issuers, their keys and what they say of themselves.
    case jwt
    /// Places in lists.
    case cursors
    /// Messages of agents and gateways.
    case frames
    /// Signed statements and their payloads; archives.
    case statements

    /// The one that the program's first argument names.
    static let chosen = CommandLine.arguments.dropFirst().first.flatMap(Parser.init(rawValue:))

    /// Reads an input in every way that this parser has, and holds it to what it promises.
    func check(_ bytes: [UInt8]) {
        switch self {
        case .bodies: checkBody(bytes)
        case .queries: checkQuery(bytes)
        case .headers: checkHeaders(bytes)
        case .tokens: checkToken(bytes)
        case .jwt: checkJWT(bytes)
        case .cursors: checkCursor(bytes)
        case .frames: checkFrame(bytes)
        case .statements: checkStatement(bytes)
        }
    }
}

/// Ends the program with a sentence unless a promise is kept.
func promise(_ isKept: Bool, _ sentence: @autoclosure () -> String) {
    guard isKept else { fatalError("a broken promise: \(sentence())") }
}

/// What is read, or nothing where it is refused: a refusal is an answer.
func accepted<Value>(_ read: () throws -> Value) -> Value? {
    do { return try read() } catch {
        // What a caller would be told must be possible to say.
        _ = "\(error)"
        return nil
    }
}
