/// Why a gateway could not do what it was asked.
package struct GatewayError: Error, CustomStringConvertible {
    /// What kind of failure this is.
    package enum Code: String, Sendable {
        /// The listener could not be opened.
        case bind
        /// The incarnation passed for dead while it was taken.
        case lapsed
        /// There are as many connections as may be.
        case full
    }

    /// What kind of failure this is.
    package let code: Code
    /// One sentence.
    package let message: String

    init(_ code: Code, _ message: String) {
        self.code = code
        self.message = message
    }

    /// The sentence.
    package var description: String { message }
}

/// Why a gateway closes a session: the WebSocket close code and one sentence.
struct CloseReason: Equatable {
    let code: UInt16
    let message: String

    static let goingAway = CloseReason(code: 1001, message: "the gateway is going away; connect again")
    static let superseded = CloseReason(code: 4409, message: "a newer session of this device has begun")
    static let changed = CloseReason(
        code: 4410,
        message: "the device was suspended, revoked, archived or moved; connect again to learn which")
    static let newerKeys = CloseReason(
        code: 4410, message: "there is a newer key set; connect again to get it")
    static let noHello = CloseReason(code: 4408, message: "no hello within 10 seconds")
    static let silent = CloseReason(code: 4408, message: "nothing was heard for three ping periods")
    static func malformed(_ detail: String) -> CloseReason { CloseReason(code: 4400, message: detail) }
    static func refused(_ detail: String) -> CloseReason { CloseReason(code: 4401, message: detail) }
    static let tooLarge = CloseReason(code: 4413, message: "a message is over the limit of 4194304 bytes")
    static let busy = CloseReason(code: 1013, message: "too many agents connect just now; try again later")
    static let internalError = CloseReason(
        code: 1011, message: "the hello could not be answered now; connect again")
}
