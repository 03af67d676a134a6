/// Why a token of another issuer is not believed. Callers are told nothing of it: the code is for logs and
/// counters.
package struct JWTRefusal: Error, Equatable, CustomStringConvertible {
    /// What kind of refusal this is, in the order of judgment.
    package enum Code: String, Sendable, CaseIterable {
        // The form, before anything is decoded, and the header.
        case tokenTooLong, notThreeParts, notBase64URL, notJSON, forbiddenHeader, algorithmRefused, wrongType
        // The key.
        case keyIDMissing, keyIDRefused, keysOfAnotherIssuer, unknownKey, ambiguousKey, unusableKey
        case otherAlgorithm, badSignature
        // The claims.
        case wrongIssuer, wrongAudience, wrongAuthorizedParty, wrongUse, badTime, expiryMissing, expired
        case notYetValid, issueTimeMissing, issuedInFuture, lifetimeRefused, badSubject, badTokenID
    }

    /// What kind of refusal this is.
    package let code: Code

    /// A refusal.
    package init(_ code: Code) { self.code = code }

    /// The code.
    package var description: String { "the token is not believed: \(code.rawValue)" }
}
