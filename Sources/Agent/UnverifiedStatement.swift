import Domain
import Trust

/// The content of a statement whose signature was not checked: of an enrolment token before there is a key to
/// check it with, and of pinned statements, which were checked when they were pinned.
///
/// Layout of the signed bytes: `Statement` in `Trust`.
struct UnverifiedStatement {
    let deployment: DeploymentID
    let organization: OrganizationID
    let issuedAt: Instant
    let expiresAt: Instant
    let payload: [UInt8]

    /// Takes a statement of this type apart; refuses another type and other lengths.
    init(_ statement: SignedStatement, as type: StatementType) throws(AgentError) {
        let prefix = Array("cloudrmm.\(type.rawValue).v1".utf8) + [0]
        guard statement.bytes.starts(with: prefix) else {
            throw AgentError(.invalid, "this is not a statement of type \(type.rawValue)")
        }
        var header = statement.bytes[prefix.count...].dropFirst(8)
        func take(_ count: Int) -> ArraySlice<UInt8> {
            defer { header = header.dropFirst(count) }
            return header.prefix(count)
        }
        func number(_ bytes: ArraySlice<UInt8>) -> Int64 { bytes.reduce(0) { $0 << 8 | Int64($1) } }
        let (deployment, organization) = (UniqueID(bytes: take(16)), UniqueID(bytes: take(16)))
        let (issuedAt, expiresAt, length) = (number(take(8)), number(take(8)), number(take(4)))
        guard let deployment, let organization, header.count == length,
            let issuedAt = Instant(exactly: issuedAt),
            let expiresAt = Instant(exactly: expiresAt)
        else { throw AgentError(.invalid, "the bytes do not have the shape of a statement") }
        self.deployment = DeploymentID(deployment)
        self.organization = OrganizationID(organization)
        self.issuedAt = issuedAt
        self.expiresAt = expiresAt
        payload = Array(header)
    }
}

extension Instant {
    /// Seconds since 1970; `nil` where their microseconds do not fit.
    init?(exactly seconds: Int64) {
        let (microseconds, overflows) = seconds.multipliedReportingOverflow(by: 1_000_000)
        guard !overflows else { return nil }
        self.init(microseconds: microseconds)
    }
}
